"""`pawl encoder`: which encoder serves, and another one instead."""
