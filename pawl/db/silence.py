"""While a server does not answer, one transaction at a time asks it; all others fail at once.

Otherwise every request would open a connection. A server that stands still takes none of them up, and has to accept
and close each one when it goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pawl.deadlines import is_no_answer, no_answer


class Silence:
    """Whether a database answers. `seconds` is how long an answer is waited for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._answered_at = 0.0
        self._silent = False
        self._asking = False

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """A transaction. Raises `TimeoutError` at once where the server is silent and another one is asking it."""
        asks = self._silent
        if asks and self._asking:
            raise TimeoutError(no_answer(self._seconds))
        # No `await` between the look and this line, so one event loop lets exactly one through.
        self._asking = self._asking or asks
        began = time.monotonic()
        try:
            yield
        except BaseException as error:
            if is_no_answer(error):
                waited = time.monotonic() - began
                # Silent only to this one is no silence: it waits for a lock, or its statement takes long.
                # Nor is a wait that a budget, nearly used up by other calls, has cut short.
                self._silent = self._silent or (self._answered_at <= began and waited >= self._seconds / 2)
            # A cancellation says nothing of the server; any other fault is an answer.
            elif isinstance(error, Exception):
                self._note_answer()
            raise
        else:
            self._note_answer()
        finally:
            if asks:
                self._asking = False

    def _note_answer(self) -> None:
        self._silent = False
        self._answered_at = time.monotonic()
