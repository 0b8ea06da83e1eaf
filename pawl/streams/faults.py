"""Translates faults of Redis into a `StreamFault`; the server's own words are kept beside it."""

from __future__ import annotations

from urllib.parse import urlsplit

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from pawl.ports.stream import StreamFault, StreamUnavailable

_KINDS: tuple[tuple[type[Exception], StreamFault], ...] = (
    (AuthenticationError, StreamFault.CREDENTIALS),
    (NoPermissionError, StreamFault.RIGHTS),
    (BusyLoadingError, StreamFault.LOADING),
    (OutOfMemoryError, StreamFault.MEMORY),
    (ReadOnlyError, StreamFault.READ_ONLY),
    (TimeoutError, StreamFault.TIMEOUT),
)
_WORDS = (
    ("WRONGPASS", StreamFault.CREDENTIALS),
    ("NOAUTH", StreamFault.CREDENTIALS_MISSING),
    ("Authentication required", StreamFault.CREDENTIALS_MISSING),
    ("CERTIFICATE_VERIFY_FAILED", StreamFault.CERTIFICATE),
    ("SSL", StreamFault.TLS),
    ("NOPERM", StreamFault.RIGHTS),
    ("MISCONF", StreamFault.DISK),
    ("OOM", StreamFault.MEMORY),
    ("LOADING", StreamFault.LOADING),
    ("refused", StreamFault.NOT_LISTENING),
    ("Connect call failed", StreamFault.NOT_LISTENING),
    ("No such file", StreamFault.NOT_LISTENING),
    ("Name or service not known", StreamFault.UNKNOWN_HOST),
    ("Temporary failure in name resolution", StreamFault.UNKNOWN_HOST),
    ("Timeout", StreamFault.TIMEOUT),
    ("closed", StreamFault.LOST),
)


def unavailable(error: RedisError | OSError, url: str) -> StreamUnavailable:
    """Returns the error of the port, with what Redis said. A password in the URL is masked."""
    said = " ".join(str(error).split())[:300]
    password = urlsplit(url).password
    if password:
        said = said.replace(password, "***")
    return StreamUnavailable(_fault(error, said), said, refused=isinstance(error, ResponseError))


def _fault(error: Exception, said: str) -> StreamFault:
    # First: redis-py raises AuthenticationError for a missing password as well as for a wrong one.
    if "Authentication required" in said or said.startswith("NOAUTH"):
        return StreamFault.CREDENTIALS_MISSING
    for kind, fault in _KINDS:
        if isinstance(error, kind):
            return fault
    return next((fault for words, fault in _WORDS if words.lower() in said.lower()), StreamFault.OTHER)
