"""The live version and what answers with it."""
