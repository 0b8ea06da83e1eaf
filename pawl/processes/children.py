"""How Pawl starts its own programs as child processes."""

from __future__ import annotations

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Returns the command `python -P -m MODULE ...`.

    Without `-P`, Python looks in the working folder first, and would import an `app` or a `worker` that lies there.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
