"""Libraries that are installed only where such files are read."""

from __future__ import annotations

from importlib.util import find_spec

from app.commands.console.terminal import CommandFailed
from pawl.installed import install_command


def need(library: str, what: str) -> None:
    """Raises `CommandFailed` that says how to install a library where it is missing."""
    try:
        is_installed = find_spec(library) is not None
    except ValueError:  # its place in `sys.modules` is taken by something that is no module
        is_installed = False
    if not is_installed:
        raise CommandFailed(
            f"{what} need {library}, which is not installed",
            f"Install it with: {install_command('files')}, or: pip install {library}",
        )
