"""`pawl up`, `serve`, `work`, `migrate`: the processes of a home."""
