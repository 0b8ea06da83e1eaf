"""Whether an error is the environment's (disk, memory, device, server, files) or that of the input.

An environment error is known by its class or, where a library wraps what the system said, by its words. Any other
error may still be the environment's: `worker/health/environment.py` finds out by a step without the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from sqlalchemy import exc

from pawl.domain.errors import ArtefactCorrupt, EncoderRejected, SettingInvalid, Unavailable

_ENVIRONMENT = (
    OSError,  # full, read-only, damaged or forbidden disks, lost connections, time-outs, too many open files
    MemoryError,
    torch.OutOfMemoryError,
    torch.AcceleratorError,
    Unavailable,  # the database above all
    exc.ProgrammingError,  # a table, a column or a right that is missing
    exc.NotSupportedError,
    ArtefactCorrupt,
    EncoderRejected,
    SettingInvalid,
)
_ENVIRONMENT_WORDS = re.compile(
    r"out of memory|not enough memory|can(?:no|')t allocate|failed to allocate|bad.?alloc"
    r"|no space left|disk quota|disk is full|read-only|i/o error|input/output error|permission denied"
    r"|too many open files|can't start new thread|os error \d+|\bcuda\b|cudnn|cublas|\bhip\b|device-side assert|nccl",
    re.IGNORECASE,
)
_LOST_WORDS = re.compile(r"\b(?:cuda|hip) error\b|device-side assert|illegal memory access", re.IGNORECASE)


def is_of_environment(error: BaseException) -> bool:
    """Whether this error, or one that caused it, is the environment's whatever the input was."""
    return any(
        isinstance(cause, _ENVIRONMENT) or bool(_ENVIRONMENT_WORDS.search(str(cause))) for cause in _causes(error)
    )


def is_damage(error: BaseException) -> bool:
    """Whether files have changed since they were written."""
    return any(isinstance(cause, ArtefactCorrupt) for cause in _causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Whether the process has lost its GPU: every later call fails too, until a new process opens it again."""
    return any(_is_loss(cause) for cause in _causes(error))


def sentence(error: BaseException) -> str:
    """The error as a sentence for the operator, at most 500 characters."""
    if isinstance(error, OSError) and error.strerror:
        words = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        words = f"out of memory {error}"
    else:
        words = str(error) or type(error).__name__
    return " ".join(words.split())[:500]


def _is_loss(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return False  # the request was too large; the device still works
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and bool(_LOST_WORDS.search(str(error)))
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on. A chain may be circular: each is returned once."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        # As a traceback goes: where an error was raised `from None`, what was being handled is no cause of it.
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
