"""`pawl quarantine` and `dead-letters`: labels that somebody has to decide about."""
