"""Translates faults of the database into sentences for clients; the server's own words are kept beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, exc

from pawl.domain.errors import StoreUnavailable

_STATES = {
    "28": "it refuses the user or the password",
    "3D": "there is no database of this name",
    "42501": "its user lacks a right that Pawl needs",
    "42P01": "its tables are missing or of another version of Pawl",
    "42703": "its tables are missing or of another version of Pawl",
    "3F": "its schema is missing",
    "25006": "it takes no writes",
    "53100": "its disk is full",
    "53": "it has no resources left",
    "57": "it is stopping or starting",
    "55": "what is needed is locked",
    "40": "another transaction was in the way",
    "58": "it has a fault of its own",
    "XX": "it has a fault of its own",
}
"""By SQLSTATE, or the class of it that its first two characters are."""
# For errors without SQLSTATE: SQLite's, and psycopg's before there is a connection. The first match counts, so what
# occurs in other messages (`closed`) is last.
_WORDS = (
    ("certificate", "its certificate is not trusted"),
    ("password authentication", "it refuses the user or the password"),
    ("no password supplied", "it refuses the user or the password"),
    ("authentication failed", "it refuses the user or the password"),
    ("does not exist", "there is no database or user of this name"),
    ("no answer within", "it does not answer in time"),
    ("timeout expired", "it does not answer in time"),
    ("QueuePool limit", "all its connections are in use"),
    ("refused", "nothing listens there"),
    ("No such file or directory", "nothing listens there"),
    ("resolve", "its host is not known"),
    ("Name or service not known", "its host is not known"),
    ("database is locked", "it is locked by another process"),
    ("disk is full", "its disk is full"),
    ("readonly database", "it takes no writes"),
    ("no such table", "its tables are missing or of another version of Pawl"),
    ("no such column", "its tables are missing or of another version of Pawl"),
    ("unable to open", "its file cannot be opened"),
    ("not a database", "its file is no database"),
    ("malformed", "its file is damaged"),
    ("disk I/O", "its disk gave an error"),
    ("closed", "the connection was lost"),
)
_OUTAGES = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
_MISFITS = {"42501", "42P01", "42703", "3F000"}
"""States of a `ProgrammingError` that say something of the database, not of the statement."""


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raises `StoreUnavailable` for faults of the database or of the way to it; mistakes in a statement pass."""
    try:
        yield
    except TimeoutError as error:  # of a request's budget
        raise _unavailable(str(error), "", url) from error
    except _OUTAGES as error:
        raise _unavailable(_said(error), _state(error), url) from error
    except exc.DatabaseError as error:
        # The bare class is SQLite's "file is not a database" and the like; its other subclasses are mistakes in a call.
        bare = type(error) is exc.DatabaseError
        if not bare and not error.connection_invalidated and _state(error) not in _MISFITS:
            raise
        raise _unavailable(_said(error), _state(error), url) from error


def _unavailable(said: str, state: str, url: URL) -> StoreUnavailable:
    # Drivers may repeat the connection string in their messages, and these go to logs and `doctor`.
    if url.password:
        said = said.replace(str(url.password), "***")
    return StoreUnavailable(problem=_in_our_words(said, state), said=said)


def _in_our_words(said: str, state: str) -> str:
    known = _STATES.get(state) or _STATES.get(state[:2])
    if known is not None:
        return known
    return next((ours for words, ours in _WORDS if re.search(words, said, re.IGNORECASE)), "it gave an error")


def _state(error: exc.SQLAlchemyError) -> str:
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    return str(getattr(original, "sqlstate", None) or "")


def _said(error: exc.SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return " ".join(str(cause).split())[:300]
