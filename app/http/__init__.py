"""The edge of the service: what wraps every request, whichever route it is for."""
