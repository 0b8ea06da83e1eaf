"""Two thousand pieces of feedback while the learner is killed twenty times; what was accepted and what became of it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import httpx
import redis.asyncio as redis

from pawl.classifier.classifier import Classifier
from pawl.domain.samples import Sample
from pawl.domain.versions import LedgerRow, Version
from pawl.streams.redis_stream import STREAM
from tests.intents import TOPICS, Labelled, labelled
from tests.polling import eventually
from tests.processes import PATIENCE, Installation, Process, Stores

KILLS = 20
FEEDBACKS = 2000
"""Of these 20 % are sent twice (half with the same key and body, half as a text and label that are known), and
another 10 % are delivered twice by the stream."""
_ROUND = FEEDBACKS // KILLS
_RELABELLED = 2
"""Texts in a round that get another label after their first; the first has to leave again."""
_FASTEST, _SLOWEST = 0.0, 0.8  # seconds from the first request of a round to the kill


@dataclass(slots=True)
class Outcome:
    """What clients were told, and the truth at the end."""

    accepted: dict[Labelled, str] = field(default_factory=dict)
    """(text, label) -> id, as the first receipt said."""
    contradictions: list[str] = field(default_factory=list)
    """Repeats that got another id than the first time."""
    replaced: set[str] = field(default_factory=set)
    kills: int = 0
    samples: dict[str, Sample] = field(default_factory=dict)
    ledger: list[LedgerRow] = field(default_factory=list)
    live: Version | None = None
    model: Classifier | None = None
    learned: list[Sample] = field(default_factory=list)
    leaders: set[str] = field(default_factory=set)


class KillRun:
    """Feeds, kills, empties Redis half-way, and waits until nothing is queued."""

    def __init__(self, pawl: Installation, seed: int) -> None:
        self._pawl = pawl
        self._rng = random.Random(seed)
        self._fresh = iter(labelled(FEEDBACKS, seed=1000 + seed))
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        pawl, outcome = self._pawl, self.outcome
        pawl.start_app()
        workers = [pawl.start_worker(), pawl.start_worker()]
        async with pawl.client() as client, pawl.stores() as stores:
            self._client, self._redis = client, redis.from_url(pawl.settings.stream_url)
            for number in range(KILLS):
                workers = await self._round(stores, workers, recovered=bool(number % 4))
                if number == KILLS // 2:
                    await self._redis.flushall()
            await eventually(lambda: _nothing_queued(stores), 2 * PATIENCE, every=0.1)
            await self._redis.aclose()
            outcome.samples = {s.id: s for s in await stores.samples.get_many(list(outcome.accepted.values()))}
            outcome.ledger = await stores.ledger.ledger(0)
            outcome.live = live = await stores.ledger.live()
            outcome.learned = await stores.learned()
            assert live is not None
            outcome.model = pawl.offline(live.number)
        return outcome

    async def _round(self, stores: Stores, workers: list[Process], *, recovered: bool) -> list[Process]:
        """Sends while a moment passes and the leader dies. The other worker takes over; a new one stands by.

        `recovered`: only a leader that has the live version in hand; else one that may still be reading it.
        """
        leader = await eventually(lambda: _leader(stores, workers, recovered=recovered), PATIENCE, every=0.02)
        assert leader is not None
        sending = asyncio.create_task(self._send())
        await asyncio.sleep(self._rng.uniform(_FASTEST, _SLOWEST))  # the moment of the kill, not a synchronisation
        leader.kill()
        self.outcome.kills += 1
        self.outcome.leaders.add(str(leader.pid))
        await sending
        return [*(one for one in workers if one is not leader), self._pawl.start_worker()]

    async def _send(self) -> None:
        fresh = [next(self._fresh) for _ in range(_ROUND * 7 // 10)]
        for place in range(_RELABELLED):
            text, label = fresh[place]
            other = self._rng.choice([one for one in TOPICS if one != label])
            fresh[-1 - place] = (text, other)
        sent: list[Labelled] = []
        while fresh:
            batch, fresh = fresh[: (size := self._rng.randint(1, 10))], fresh[size:]
            sent += batch
            await self._post(batch, key=f"key-{len(self.outcome.accepted)}", twice=self._rng.random() < 1 / 7)
        standing = [pair for pair in sent[:-_RELABELLED] if pair not in sent[:_RELABELLED]]
        await self._post([(f"  {text.upper()} ", label) for text, label in self._rng.sample(standing, _ROUND // 10)])
        self.outcome.replaced |= {self.outcome.accepted[pair] for pair in sent[:_RELABELLED]}
        again = self._rng.sample(standing, _ROUND // 10)
        await self._redis.xadd(STREAM, {"ids": ",".join(self.outcome.accepted[pair] for pair in again)})

    async def _post(self, batch: list[Labelled], key: str | None = None, *, twice: bool = False) -> None:
        body = {"items": [{"text": text, "label": label} for text, label in batch]}
        headers = {"idempotency-key": key} if key else {}
        for _ in range(2 if twice else 1):
            answer = await self._client.post("/v1/feedback", json=body, headers=headers)
            assert answer.status_code == httpx.codes.ACCEPTED, answer.text
            for (text, label), receipt in zip(batch, answer.json()["items"], strict=True):
                first = self.outcome.accepted.setdefault((" ".join(text.lower().split()), label), receipt["id"])
                if first != receipt["id"]:
                    self.outcome.contradictions.append(f"{first} became {receipt['id']}")


async def _nothing_queued(stores: Stores) -> bool:
    return (await stores.samples.backlog()).length == 0


async def _leader(stores: Stores, workers: list[Process], *, recovered: bool) -> Process | None:
    """The worker that holds the lease."""
    status = await stores.ledger.learner_status()
    if status is None or (recovered and not status.details.get("version")):
        return None
    return next((one for one in workers if one.is_running and status.holder.endswith(f"-{one.pid}")), None)
