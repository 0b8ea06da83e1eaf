"""A feedback that got its 202 ends in exactly one final state, whatever is killed and whenever."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pawl.domain.samples import SampleState
from tests.intents import items, labelled
from tests.invariants.kills import FEEDBACKS, KILLS, Outcome
from tests.load import predicting
from tests.polling import eventually
from tests.processes import PATIENCE, Installer, until_ready, until_settled
from tests.servers import RedisServer

OUTAGE_SECONDS = 20.0


@pytest.mark.timeout(900)
def test_every_accepted_feedback_is_final_after_twenty_kills_and_an_emptied_redis(killed: Outcome) -> None:
    assert killed.kills == KILLS
    assert len(killed.leaders) == KILLS
    assert len(killed.accepted) == FEEDBACKS * 7 // 10
    assert killed.contradictions == []
    assert set(killed.samples) == set(killed.accepted.values())
    states = {sample_id: sample.state for sample_id, sample in killed.samples.items()}
    for sample_id in killed.replaced:
        assert states.pop(sample_id) is SampleState.RETRACTED
    assert set(states.values()) == {SampleState.LEARNED}


@pytest.mark.timeout(300)
async def test_feedback_is_learned_and_predictions_answered_while_redis_is_down(
    install: Installer, short_folder: Path
) -> None:
    folder = short_folder / "outage-redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        pawl = install.trained(redis_url=server.url)
        pawl.start_app()
        pawl.start_worker()
        fresh = iter(labelled(1000, seed=1))
        async with pawl.client() as client:
            await until_ready(client)

            async def give() -> str:
                answer = await client.post("/v1/feedback", json=items([next(fresh)]))
                assert answer.status_code == 202, answer.text
                return str(answer.json()["items"][0]["id"])

            assert (await until_settled(client, await give()))["state"] == "learned"
            given: list[str] = []
            async with predicting(client, ["card pin blocked", "hotel trip"], clients=2) as load:
                server.kill()
                began = time.monotonic()
                given.append(await give())
                during = await until_settled(client, given[0])
                while time.monotonic() - began < OUTAGE_SECONDS:
                    given.append(await give())
                    await asyncio.sleep(0.25)  # the pace of the feedback, for as long as the outage lasts
                answered = len(load.all_answers)
                server.start()
                given.append(await give())
                after = [await until_settled(client, sample_id) for sample_id in given]
                await eventually(lambda: len(load.all_answers) > answered, PATIENCE)
        assert during["state"] == "learned"
        assert load.failures == []
        assert answered > 10
        assert {one["state"] for one in after} == {"learned"}
    finally:
        server.stop()
