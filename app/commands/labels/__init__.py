"""`pawl labels`, `tasks` and `demo`: the label sets."""
