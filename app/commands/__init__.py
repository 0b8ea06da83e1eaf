"""The parts of the command line. Together with `app/cli.py` they are a composition root and may name adapters."""
