"""How Pawl's own programs are started as children."""

from __future__ import annotations

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """`python -m MODULE ...` that imports what is installed.

    Without `-P` Python would look in the working folder first, and import an `app` or a `worker` that lies there.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
