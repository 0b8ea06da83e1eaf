"""What keeps Redis from working, told twice: in words fit for a client, and as the server itself puts it."""

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

from pawl.ports.stream import StreamUnavailable

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "it refuses the password"),
    (NoPermissionError, "its user lacks a right that Pawl needs"),
    (BusyLoadingError, "it is still loading its data"),
    (OutOfMemoryError, "its memory is full"),
    (ReadOnlyError, "it takes no writes"),
    (TimeoutError, "it does not answer in time"),
)
_WORDS = (
    ("WRONGPASS", "it refuses the password"),
    ("NOAUTH", "it asks for a password"),
    ("Authentication required", "it asks for a password"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ("SSL", "it does not speak TLS as it was asked to"),
    ("NOPERM", "its user lacks a right that Pawl needs"),
    ("MISCONF", "it cannot write to its disk"),
    ("OOM", "its memory is full"),
    ("LOADING", "it is still loading its data"),
    ("refused", "nothing listens there"),
    ("Connect call failed", "nothing listens there"),
    ("No such file", "nothing listens there"),
    ("Name or service not known", "its host is not known"),
    ("Temporary failure in name resolution", "its host is not known"),
    ("Timeout", "it does not answer in time"),
    ("closed", "the connection was lost"),
)


def unavailable(error: RedisError | OSError, url: str) -> StreamUnavailable:
    """The error of the port, with what Redis said; a password in the URL is nowhere in it."""
    said = " ".join(str(error).split())[:300]
    password = urlsplit(url).password
    if password:
        said = said.replace(password, "***")
    return StreamUnavailable(_in_our_words(error, said), said, refused=isinstance(error, ResponseError))


def _in_our_words(error: Exception, said: str) -> str:
    if "Authentication required" in said or said.startswith("NOAUTH"):
        return "it asks for a password"
    for kind, ours in _KINDS:
        if isinstance(error, kind):
            return ours
    return next((ours for words, ours in _WORDS if words.lower() in said.lower()), "it gave an error")
