"""What one phase of a consolidation no longer needs goes back to the machine before the next one needs its own."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def return_free_memory() -> None:
    """Frees what only circles of references hold, and gives the allocator's free pages back where it can be asked."""
    gc.collect()
    # glibc keeps what was freed below something in use: after a training that is a gigabyte. Others have no such call.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
