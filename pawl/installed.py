"""Which versions are installed, and how to install what an extra brings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

PACKAGE = "pawl-server"


def installed_version(package: str) -> str | None:
    """Returns the version of an installed package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of those of some packages that are installed."""
    versions = {package: installed_version(package) for package in packages}
    return {package: number for package, number in versions.items() if number is not None}


def pawl_version() -> str:
    """Returns Pawl's version; `0` where it runs from a source tree that is not installed."""
    return installed_version(PACKAGE) or "0"


def install_command(extra: str) -> str:
    """Returns `pip install ...` with the libraries of an extra, by the metadata of the Pawl that runs.

    Pawl is on no package index, so pip cannot be asked for `pawl-server[...]`.
    """
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:
        lines = []
    wanted = [line.split(";")[0].strip() for line in lines if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    if not wanted:
        return f"pip install '.[{extra}]' (in Pawl's checkout)"
    return "pip install " + " ".join(map(shlex.quote, wanted))
