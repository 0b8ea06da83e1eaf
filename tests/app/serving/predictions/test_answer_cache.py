"""Answers that are kept: bounded, of the live version alone, and the ones that would be computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.metrics import AppMetrics
from app.serving.predictions.answer_cache import AnswerCache
from pawl.domain.predictions import Answer, LabelScore
from tests.app.world import World


def _answer(label: str) -> Answer:
    return Answer((LabelScore(label, 0.9),), 0.1)


def test_the_least_recently_used_goes_first() -> None:
    cache = AnswerCache(2, AppMetrics())
    assert cache.find(1, "t", 1, ["a", "b"]) == [None, None]
    cache.keep(1, "t", 1, ["a", "b"], [_answer("A"), _answer("B")])
    assert cache.find(1, "t", 1, ["a"]) == [_answer("A")]
    cache.keep(1, "t", 1, ["c"], [_answer("C")])
    assert cache.find(1, "t", 1, ["a", "b", "c"]) == [_answer("A"), None, _answer("C")]


@pytest.mark.parametrize("other", [(1, "u", 1), (1, "t", 2), (2, "t", 1)])
def test_another_task_top_k_or_version_is_another_question(other: tuple[int, str, int]) -> None:
    cache = AnswerCache(10, AppMetrics())
    cache.find(1, "t", 1, ["a"])
    cache.keep(1, "t", 1, ["a"], [_answer("A")])
    assert cache.find(*other, ["a"]) == [None]


def test_an_older_version_neither_gets_nor_leaves_answers() -> None:
    """A request that began before a swap ends after it."""
    cache = AnswerCache(10, AppMetrics())
    cache.find(1, "t", 1, ["a"])
    cache.find(2, "t", 1, ["a"])
    cache.keep(1, "t", 1, ["a"], [_answer("old")])
    assert cache.find(2, "t", 1, ["a"]) == [None]
    cache.keep(2, "t", 1, ["a"], [_answer("new")])
    assert cache.find(1, "t", 1, ["a"]) == [None]
    assert cache.find(2, "t", 1, ["a"]) == [_answer("new")]


def test_a_long_text_is_not_kept() -> None:
    cache = AnswerCache(10, AppMetrics())
    cache.find(1, "t", 1, ["x" * 2001])
    cache.keep(1, "t", 1, ["x" * 2001], [_answer("A")])
    assert cache.find(1, "t", 1, ["x" * 2001]) == [None]


async def test_over_http_a_kept_answer_is_the_computed_one_and_a_new_version_answers_anew(tmp_path: Path) -> None:
    world = World(tmp_path, answer_cache=10)
    texts = ["where is my card", "send money", "where is my card"]
    async with world.client() as client:
        bodies = []
        for number in (1, 1, 2):
            if world.service.engine.number != number:
                await world.serve(number)
            bodies.append((await client.post("/v1/predict", json={"texts": texts, "top_k": 3})).json())
        computed = world.service.metrics.predicted.labels("meaning")._value.get()
    first, again, newer = ([{**one, "id": None} for one in body["predictions"]] for body in bodies)
    assert first == again
    assert first[0] == first[2]
    assert [body["version"] for body in bodies] == [1, 1, 2]
    assert newer != first
    assert computed == 4, "two texts for each version"
    assert len({one["id"] for body in bodies for one in body["predictions"]}) == 9, "each answer can be corrected"
