"""Faults at length, on a real `pawl up`: `make chaos`; the test suite has the quick forms."""
