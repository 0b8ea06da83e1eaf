"""Commands that work on the home itself, with no service between: its stores, and waiting for its learner."""
