"""What goes over the wire. Requests are strict and refuse unknown fields; responses are documented here and are
written by the routes.
"""
