"""The transport from the service to the learner and back (Redis)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One delivered entry. `deliveries` counts how often it was handed out."""

    entry_id: str
    sample_ids: tuple[str, ...]
    deliveries: int


class StreamFault(StrEnum):
    """What keeps a server from serving, in the words that people read."""

    CREDENTIALS = "it refuses the password"
    RIGHTS = "its user lacks a right that Pawl needs"
    LOADING = "it is still loading its data"
    MEMORY = "its memory is full"
    READ_ONLY = "it takes no writes"
    TIMEOUT = "it does not answer in time"
    CREDENTIALS_MISSING = "it asks for a password"
    CERTIFICATE = "its certificate is not trusted"
    TLS = "it does not speak TLS as it was asked to"
    DISK = "it cannot write to its disk"
    NOT_LISTENING = "nothing listens there"
    UNKNOWN_HOST = "its host is not known"
    LOST = "the connection was lost"
    OTHER = "it gave an error"


class StreamUnavailable(ConnectionError):
    """The transport does not work.

    `problem` is a `StreamFault`, or a sentence about what a rehearsal found. `said` is what the server said, which may
    name hosts and ports: it is not for clients.
    """

    def __init__(self, problem: str, said: str = "", *, refused: bool = False) -> None:
        super().__init__(f"Redis cannot be used: {problem} ({said})" if said else f"Redis cannot be used: {problem}")
        self.problem = problem
        self.said = said
        self.refused = refused
        """Whether the server answered, with a refusal."""


class FeedbackStream(Protocol):
    """Transport of sample ids to the learner, and hints about new versions (Redis). Loss is allowed: SQL is swept.

    Raises `StreamUnavailable` when the server cannot be reached, or refuses.
    """

    carries: bool
    """Whether ids come this way. Without a server they do not: the sweep is the only way in."""

    async def announce(self, sample_ids: Sequence[str]) -> None:
        """Puts ids on the stream (one entry for each 500)."""

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """New entries for this consumer, waiting up to `block_ms`. Creates the group where it is missing."""

    async def reclaim(self, consumer: str, min_idle_ms: int, count: int) -> list[StreamEntry]:
        """Entries that another consumer took and did not finish."""

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """Marks entries as done and removes them."""

    async def length(self) -> int:
        """Entries on the stream."""

    async def hint_version(self, number: int) -> None:
        """Tells the apps that a version was promoted (a hint; they poll SQL too)."""

    def version_hints(self) -> AsyncIterator[int]:
        """Version numbers as they are hinted. Ends with `StreamUnavailable` when the server goes away."""

    async def tell_pressure(self, ms: int) -> None:
        """Says that answers wait for the device; true for `ms` milliseconds unless it is said again."""

    async def under_pressure(self) -> bool:
        """Whether an app has said so and it still holds."""

    async def ping(self) -> None:
        """Raises `StreamUnavailable` when the server cannot be reached."""

    async def close(self) -> None:
        """Closes the connections."""
