"""A constant load of predictions that keeps every answer and every failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(slots=True)
class Load:
    """What the clients got. `answers` are response bodies in the order in which each client got them."""

    answers: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    texts: Sequence[str] = ()

    @property
    def all_answers(self) -> list[dict[str, Any]]:
        return [answer for answers in self.answers.values() for answer in answers]

    @property
    def versions(self) -> set[int]:
        """Numbers of the versions that answered."""
        return {answer["version"] for answer in self.all_answers}


@asynccontextmanager
async def predicting(client: httpx.AsyncClient, texts: Sequence[str], clients: int = 4) -> AsyncIterator[Load]:
    """Asks for all texts again and again, with all scores, from several clients at once, while the block lasts."""
    load = Load(texts=texts)
    over = asyncio.Event()

    async def ask(number: int) -> None:
        body = {"texts": list(texts), "top_k": 1000}
        answers = load.answers.setdefault(number, [])
        while not over.is_set():
            try:
                answer = await client.post("/v1/predict", json=body)
            except httpx.HTTPError as error:
                load.failures.append(repr(error))
                continue
            if answer.status_code == httpx.codes.OK:
                answers.append(answer.json())
            else:
                load.failures.append(answer.text)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(ask(number))
        try:
            yield load
        finally:
            over.set()
