"""Words first: what they answer waits for no encoder, what they leave both heads answer, nothing is mixed up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.metrics import AppMetrics
from app.serving.predictions.batcher import Batcher
from app.serving.predictions.cascade import Cascade
from app.serving.predictions.engine import Engine
from pawl.domain.errors import DeadlineExceeded, QueueFull
from pawl.domain.predictions import Answer
from pawl.settings import Settings
from tests.app.serving.predictions.numbered import NumberedClassifier, expected_label
from tests.polling import eventually


def simple(text: str) -> bool:
    """Which texts words alone suffice for."""
    return "?" not in text


@asynccontextmanager
async def running(**overrides: Any) -> AsyncIterator[Cascade]:
    metrics, settings = AppMetrics(), Settings(**overrides)
    batcher = Batcher(settings, metrics, threads=1)
    cascade = Cascade(batcher, settings, metrics)
    batcher.start()
    try:
        yield cascade
    finally:
        await batcher.close()
        cascade.close()


def ask(cascade: Cascade, version: NumberedClassifier, *texts: str, top_k: int = 1) -> asyncio.Task[list[Answer]]:
    return asyncio.create_task(cascade.submit(version, texts, task="default", top_k=top_k))


def heard(answers: Sequence[Answer]) -> list[tuple[str, str]]:
    return [(answer.label, answer.by) for answer in answers]


def expected(*texts: str) -> list[tuple[str, str]]:
    return [(expected_label(1, text), "words" if simple(text) else "meaning") for text in texts]


async def test_texts_by_words_do_not_wait_behind_a_slow_encoder() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    async with running(predict_queue=1) as cascade:
        classifier.encoder.open.clear()
        held = ask(cascade, classifier, "slow?")
        await eventually(classifier.encoder.entered.is_set)
        waiting = ask(cascade, classifier, "waits?")
        async with asyncio.timeout(5):
            # Nor do they need a place in the queue, which is full.
            await eventually(lambda: cascade._batcher._waiting == 1)
            assert heard(await ask(cascade, classifier, "a", "b")) == expected("a", "b")
            with pytest.raises(QueueFull):
                await ask(cascade, classifier, "no room?")
        assert not held.done()
        classifier.encoder.open.set()
        assert heard(await held) + heard(await waiting) == expected("slow?", "waits?")
    assert classifier.encoder.batches == [["slow?"], ["waits?"]]


async def test_of_a_mixed_request_the_encoder_reads_what_words_leave() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    texts = ("a", "b?", "c", "d?", "e")
    async with running() as cascade:
        assert heard(await ask(cascade, classifier, *texts, top_k=2)) == expected(*texts)
        counted = {by: cascade._batcher._metrics.predicted.labels(by)._value.get() for by in ("words", "meaning")}
    assert classifier.encoder.batches == [["b?", "d?"]]
    assert counted == {"words": 3, "meaning": 2}


async def test_requests_of_one_turn_of_the_loop_are_read_together_and_keep_their_own_top_k() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    async with running() as cascade:
        answers = await asyncio.gather(*(ask(cascade, classifier, f"text {k}", f"{k}?", top_k=k) for k in (1, 2, 3)))
    assert len(classifier.read_by_words) == 1
    for k, some in zip((1, 2, 3), answers, strict=True):
        assert heard(some) == expected(f"text {k}", f"{k}?")
        assert {len(answer.scores) for answer in some} == {k}


async def test_off_asks_words_for_nothing_but_the_pair() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    async with running(fast_answers_loss="off") as cascade:
        (answer,) = await ask(cascade, classifier, "a")
    assert answer.by == "meaning"
    assert classifier.encoder.batches == [["a"]]


async def test_a_request_with_much_text_does_not_hold_the_event_loop() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    texts = ["held", *(f"{number}" + "long " * 100 for number in range(40)), "last?"]
    async with running() as cascade:
        long = ask(cascade, classifier, *texts)
        await eventually(lambda: classifier.read_by_words)
        async with asyncio.timeout(5):
            assert heard(await ask(cascade, classifier, "short")) == expected("short")
        classifier.words_open.set()
        assert heard(await long) == expected(*texts)
    chunks = [read for thread, read in classifier.read_by_words if thread.startswith("pawl-words")]
    assert [text for chunk in chunks for text in chunk] == texts
    assert all(sum(map(len, chunk)) <= 2048 for chunk in chunks)
    assert len(chunks) > 5


async def test_a_request_with_much_text_keeps_its_deadline_and_ends_with_its_client() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    texts = ["held", *("long " * 100 for _ in range(40))]
    async with running(predict_timeout_ms=200) as cascade:
        with pytest.raises(DeadlineExceeded):
            await ask(cascade, classifier, *texts)
        left = ask(cascade, classifier, *texts)
        await asyncio.sleep(0.05)
        left.cancel()
        classifier.words_open.set()
        assert heard(await ask(cascade, classifier, "next")) == expected("next")
        await asyncio.gather(left, return_exceptions=True)
    assert len(classifier.read_by_words) <= 3  # one chunk of each, and the next request


async def test_whoever_has_gone_is_not_read() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    async with running() as cascade:
        left, stays = ask(cascade, classifier, "gone"), ask(cascade, classifier, "stays")
        asyncio.get_running_loop().call_soon(left.cancel)
        assert heard(await stays) == expected("stays")
    assert [read for _, read in classifier.read_by_words] == [["stays"]]


async def test_a_text_that_breaks_words_fails_its_own_request_alone() -> None:
    classifier = NumberedClassifier(1, simple=simple)
    async with running() as cascade:
        broken, whole = ask(cascade, classifier, "broken words"), ask(cascade, classifier, "whole")
        with pytest.raises(ValueError, match="broken words"):
            await broken
        (answer,) = await whole
    assert (answer.label, answer.by) == (expected_label(1, "whole"), "meaning")


requests = st.lists(
    st.tuples(st.lists(st.text("ab?", max_size=3), min_size=1, max_size=6), st.integers(1, 4), st.booleans()),
    max_size=12,
)


@settings(max_examples=40)
@given(requests, st.integers(1, 3))
def test_order_is_kept_and_each_answer_is_of_the_leased_version_under_swaps(
    plan: list[tuple[list[str], int, bool]], max_batch: int
) -> None:
    async def scenario() -> None:
        async with running(max_batch=max_batch) as cascade:
            engine = Engine(AppMetrics(), 10)
            engine.swap(NumberedClassifier(1, simple=simple))

            async def request(texts: list[str], top_k: int) -> None:
                with engine.lease() as version:
                    answers = await cascade.submit(version, texts, task="default", top_k=top_k)
                    assert [answer.label for answer in answers] == [expected_label(version.number, t) for t in texts]
                    assert [answer.by == "words" for answer in answers] == [simple(text) for text in texts]
                    assert {len(answer.scores) for answer in answers} == {min(top_k, 3)}

            asked = []
            for texts, top_k, swap in plan:
                asked.append(asyncio.create_task(request(texts, top_k)))
                if swap:
                    await asyncio.sleep(0)
                    engine.swap(NumberedClassifier(engine.number + 1, simple=simple))
            await asyncio.gather(*asked)

    asyncio.run(scenario())
