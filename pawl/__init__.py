"""The library that the service and the learner rest on, and what a Python user imports.

    from pawl import Client, load

    load      reads a version from the disk and answers with it, without the service
    Client    talks to a running service over HTTP

Nothing is imported before it is asked for, so that `import pawl` costs no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pawl.client import Client, Correction
    from pawl.offline import load

__all__ = ["Client", "Correction", "load"]

_MODULES = {"Client": "pawl.client", "Correction": "pawl.client", "load": "pawl.offline"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
