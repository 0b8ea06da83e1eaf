"""`pawl predict` and `feedback`."""
