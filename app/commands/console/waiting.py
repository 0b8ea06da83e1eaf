"""Waiting for the running service to have done what it was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from app.commands.console.terminal import EXIT_PARTIAL, CommandFailed, ServiceAway
from pawl.json_values import Json

_POLL_SECONDS = 0.1


def wait_for(check: Callable[[], Json | None], late: str, seconds: float = 120.0) -> Json:
    """Polls until the check finds something, also through a restart of the service.

    Raises `CommandFailed` saying what is `late`: it was asked for, and is not done yet.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ServiceAway):
            result = check()
            if result is not None:
                return result
        time.sleep(_POLL_SECONDS)
    raise CommandFailed(late, code=EXIT_PARTIAL)
