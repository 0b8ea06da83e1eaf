"""Whose fault a failure is: that of the place (disk, memory, device, server, files) or that of what was tried.

An error of the place says so by its class or, where a library wraps what the system told it, by its words. Any other
error may still be the place's; `worker/health/trouble.py` finds out by a step without the sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from sqlalchemy import exc

from pawl.domain.errors import ArtefactCorrupt, EncoderRejected, SettingInvalid, Unavailable

_PLACE = (
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
_PLACE_WORDS = re.compile(
    r"out of memory|not enough memory|can(?:no|')t allocate|failed to allocate|bad.?alloc"
    r"|no space left|disk quota|disk is full|read-only|i/o error|input/output error|permission denied"
    r"|too many open files|can't start new thread|os error \d+|\bcuda\b|cudnn|cublas|\bhip\b|device-side assert|nccl",
    re.IGNORECASE,
)
_LOST_WORDS = re.compile(r"\b(?:cuda|hip) error\b|device-side assert|illegal memory access", re.IGNORECASE)


def is_of_the_place(error: BaseException) -> bool:
    """Whether this error, or one that led to it, can only be the place's, whatever was tried."""
    return any(isinstance(one, _PLACE) or bool(_PLACE_WORDS.search(str(one))) for one in _causes(error))


def is_damage(error: BaseException) -> bool:
    """Whether files that were written well are not what they were."""
    return any(isinstance(one, ArtefactCorrupt) for one in _causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Whether the process has lost its GPU: every later call fails too, until a new process opens it again."""
    return any(_is_loss(one) for one in _causes(error))


def told(error: BaseException) -> str:
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
        return False  # what was asked for was too much; the device goes on
    known = isinstance(error, torch.AcceleratorError)
    return known or (isinstance(error, RuntimeError) and bool(_LOST_WORDS.search(str(error))))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
