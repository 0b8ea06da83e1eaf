"""How to install what an extra brings. Pawl is on no package index, so pip cannot be asked for `pawl-server[...]`."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError, requires


def install_command(extra: str) -> str:
    """`pip install ...` with the libraries of an extra, by the metadata of the Pawl that runs."""
    try:
        lines = requires("pawl-server") or []
    except PackageNotFoundError:  # run from a source tree
        lines = []
    wanted = [line.split(";")[0].strip() for line in lines if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    if not wanted:
        return f"pip install '.[{extra}]' (in Pawl's checkout)"
    return "pip install " + " ".join(map(shlex.quote, wanted))
