"""Recomputing offline with version n's artefacts gives the response that said n."""

from __future__ import annotations

from functools import partial
from typing import Any

from pawl.classifier.classifier import Classifier
from tests.intents import TOPICS, labelled
from tests.load import Load, predicting
from tests.polling import eventually
from tests.processes import LENIENT, PATIENCE, Installer, until_ready, until_settled

SWAPS = 20
TOLERANCE = 1e-4
"""Batches of other sizes round otherwise; one correction moves the scores by a hundred times as much."""


async def test_twenty_swaps_under_constant_load_and_every_answer_is_that_of_its_version(
    install: Installer, redis_url: str
) -> None:
    pawl = install.trained(redis_url=redis_url, **LENIENT)
    pawl.start_app()
    pawl.start_worker()
    texts = [f"{one} {two}" for one, two in zip(*(_halves(seed) for seed in (5, 6)), strict=True)]
    async with pawl.client() as client:
        await until_ready(client)
        async with predicting(client, texts) as load:
            for number in range(SWAPS):
                label = list(TOPICS)[(number + number // len(texts)) % len(TOPICS)]
                item = {"text": texts[number % len(texts)], "label": label}
                receipt = await client.post("/v1/feedback", json=item)
                settled = await until_settled(client, receipt.json()["items"][0]["id"])
                assert settled["state"] == "learned"
                swapped = partial(_has_answered, load, settled["learned_in_version"])
                await eventually(swapped, PATIENCE, every=0.02)
    assert load.failures == []
    assert len(load.versions) > SWAPS
    models = {version: pawl.offline(version) for version in load.versions}
    for answer in load.all_answers:
        assert distance(answer, texts, models[answer["version"]]) < TOLERANCE
    last = next(answer for answer in load.all_answers if answer["version"] == max(load.versions))
    before = models[max(load.versions - {last["version"]})]
    assert distance(last, texts, before) > 10 * TOLERANCE  # versions differ by more, or the above would say nothing


def _has_answered(load: Load, version: int) -> bool:
    return version in load.versions


def _halves(seed: int) -> list[str]:
    """Beginnings of texts, in an order of their own, so that two of them joined are of no clear label."""
    found = [" ".join(text.split()[:4]) for text, _ in labelled(10, seed=seed)]
    return found[seed:] + found[:seed]


def distance(answer: dict[str, Any], texts: list[str], model: Classifier) -> float:
    """The largest difference of a probability or a novelty between a response and what the model says."""
    found = 0.0
    for given, own in zip(answer["predictions"], model.predict(texts, top_k=1000), strict=True):
        scores = {one.label: one.score for one in own.scores}
        assert set(scores) == {one["label"] for one in given["scores"]}
        assert given["label"] == given["scores"][0]["label"]
        assert given["by"] == own.by
        assert given["score"] == max(one["score"] for one in given["scores"])
        found = max(found, abs(given["novelty"] - own.novelty))
        found = max(found, *(abs(one["score"] - scores[one["label"]]) for one in given["scores"]))
    return found
