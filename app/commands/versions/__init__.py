"""`pawl versions`, `promote`, `consolidate` and `tune`."""
