"""With Redis, SQL and the worker gone the loaded version keeps answering; feedback needs SQL only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.world import assert_problem
from tests.intents import items, labelled
from tests.load import Load, predicting
from tests.polling import eventually
from tests.processes import PATIENCE, Installer, until_ready
from tests.servers import PostgresServer, RedisServer

TEXTS = [text for text, _ in labelled(3, seed=60)]
CLIENTS = 2
ENOUGH = 20
"""Answers that have to come in each state of the outside."""


@pytest.fixture
def outside(short_folder: Path) -> Iterator[tuple[PostgresServer, RedisServer]]:
    """A PostgreSQL and a Redis that nobody else uses, because they are killed."""
    folders = [short_folder / name for name in ("six-postgres", "six-redis")]
    for folder in folders:
        folder.mkdir()
    postgres, redis = PostgresServer(folders[0]), RedisServer(folders[1])
    try:
        postgres.start()
        redis.start()
        yield postgres, redis
    finally:
        redis.kill()
        postgres.kill()


@pytest.mark.timeout(300)
async def test_predictions_go_on_when_redis_sql_and_the_worker_are_gone(
    install: Installer, outside: tuple[PostgresServer, RedisServer]
) -> None:
    postgres, redis = outside
    pawl = install.empty(redis_url=redis.url, database_url=postgres.url(postgres.create_database()))
    fresh = iter(labelled(100, seed=61))
    async with pawl.stores():
        pass  # the schema is up to date now, and the worker finds it so
    app, worker = pawl.start_app(), pawl.start_worker()
    async with pawl.client() as client:

        async def give(**item: str) -> httpx.Response:
            text, label = next(fresh)
            return await client.post("/v1/feedback", json={"label": label, **(item or {"text": text})})

        async def is_accepted() -> bool:
            return (await give()).status_code == httpx.codes.ACCEPTED

        assert (await client.post("/v1/feedback", json=items(labelled(40)))).status_code == httpx.codes.ACCEPTED
        await until_ready(client)
        async with predicting(client, TEXTS, clients=CLIENTS) as load:
            await _until_more(load)
            worker.kill()
            redis.kill()
            postgres.kill()
            await _until_more(load)
            version = load.all_answers[-1]["version"]
            for path in ("/livez", "/readyz"):
                answer = await client.get(path)
                assert (answer.status_code, answer.json()["version"]) == (httpx.codes.OK, version)
            assert_problem(await give(), httpx.codes.SERVICE_UNAVAILABLE)
            named = load.all_answers[-1]["predictions"][0]["id"]
            assert_problem(await give(), httpx.codes.SERVICE_UNAVAILABLE)
            await _until_more(load)
            postgres.start()
            await eventually(is_accepted, PATIENCE, every=0.1)
            assert (await give(prediction_id=named)).status_code == httpx.codes.ACCEPTED
            await _until_more(load)
        assert load.failures == []
        assert app.is_running


async def _until_more(load: Load) -> None:
    """Until each client has got `ENOUGH` more answers; all but the first of them it asked for after now."""
    before = {number: len(load.answers.get(number, ())) for number in range(CLIENTS)}

    def has_more() -> bool:
        return all(len(load.answers.get(number, ())) >= count + ENOUGH for number, count in before.items())

    await eventually(has_more, PATIENCE, every=0.02)
