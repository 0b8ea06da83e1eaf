from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.metrics import AppMetrics
from app.serving.predictions.batcher import Batcher
from app.serving.predictions.engine import Engine
from pawl.domain.errors import DeadlineExceeded, Draining, QueueFull
from pawl.domain.predictions import Answer
from pawl.settings import Settings
from tests.app.serving.predictions.numbered import NumberedClassifier, expected_label
from tests.polling import eventually


@asynccontextmanager
async def running(threads: int = 1, **overrides: Any) -> AsyncIterator[Batcher]:
    """With one thread unless said otherwise, so that what waits is known while a batch is held."""
    batcher = Batcher(Settings(**overrides), AppMetrics(), threads=threads)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.close()


def labels(answers: list[Answer]) -> list[str]:
    return [answer.label for answer in answers]


requests = st.lists(
    st.tuples(st.lists(st.text(max_size=3), min_size=1, max_size=9), st.integers(1, 4), st.booleans()), max_size=15
)


@settings(max_examples=40)
@given(requests, st.integers(1, 5), st.integers(1, 3))
def test_order_is_kept_and_each_answer_is_of_the_leased_version_under_swaps(
    plan: list[tuple[list[str], int, bool]], max_batch: int, threads: int
) -> None:
    async def scenario() -> None:
        async with running(threads, max_batch=max_batch) as batcher:
            engine = Engine(AppMetrics(), 10)
            classifiers = [NumberedClassifier(1, ("default", "tone"))]
            engine.swap(classifiers[0])

            async def ask(texts: list[str], top_k: int, task: str) -> None:
                with engine.lease() as version:
                    answers = await batcher.submit(version, texts, task=task, top_k=top_k)
                    assert labels(answers) == [expected_label(version.number, text) for text in texts]
                    assert {len(answer.scores) for answer in answers} == {min(top_k, 3)}

            asked = []
            for index, (texts, top_k, swap) in enumerate(plan):
                asked.append(asyncio.create_task(ask(texts, top_k, ("default", "tone")[index % 2])))
                if swap:
                    await asyncio.sleep(0)
                    classifiers.append(NumberedClassifier(engine.number + 1, ("default", "tone")))
                    engine.swap(classifiers[-1])
            await asyncio.gather(*asked)
            sizes = [len(batch) for one in classifiers for batch in one.encoder.batches]
            assert all(size <= max_batch for size in sizes)
            assert sum(sizes) <= sum(len(texts) for texts, _, _ in plan)
            batches = [batch for one in classifiers for batch in one.encoder.batches]
            assert all(len(set(batch)) == len(batch) for batch in batches)
            assert {text for batch in batches for text in batch} == {text for texts, _, _ in plan for text in texts}

    asyncio.run(scenario())


async def test_requests_that_wait_share_a_batch_and_a_lone_one_does_not_wait() -> None:
    classifier = NumberedClassifier(1)
    async with running(max_batch=8) as batcher:
        classifier.encoder.open.clear()
        first = asyncio.create_task(batcher.submit(classifier, ["first"], task="default", top_k=1))
        await eventually(classifier.encoder.entered.is_set)
        others = [
            asyncio.create_task(batcher.submit(classifier, [f"text {n}"], task="default", top_k=1)) for n in range(5)
        ]
        await asyncio.sleep(0)
        classifier.encoder.open.set()
        await asyncio.gather(first, *others)
    assert classifier.encoder.batches == [["first"], [f"text {n}" for n in range(5)]]


async def test_two_threads_share_a_few_requests_and_a_large_batch_has_the_cores_to_itself() -> None:
    classifier = NumberedClassifier(1)

    def ask(*texts: str) -> asyncio.Task[list[Answer]]:
        return asyncio.create_task(batcher.submit(classifier, texts, task="default", top_k=1))

    async with running(threads=2) as batcher:
        classifier.encoder.open.clear()
        held = [ask(*"abcd"), ask(*"efgh")]
        await eventually(lambda: len(batcher._computing) == 2)
        classifier.encoder.open.set()
        await asyncio.gather(*held)

        classifier.encoder.open.clear()
        large = ask(*(f"text {number}" for number in range(16)))
        await eventually(lambda: sum(len(one.texts) for one in batcher._computing) == 16)
        late = ask("late")
        await asyncio.sleep(0.1)
        assert batcher._waiting == 1, "the other thread is idle and leaves it alone"
        classifier.encoder.open.set()
        await asyncio.gather(large, late)


async def test_one_text_for_two_tasks_passes_the_encoder_once() -> None:
    classifier = NumberedClassifier(1, ("default", "tone"))
    async with running() as batcher:
        classifier.encoder.open.clear()
        first = asyncio.create_task(batcher.submit(classifier, ["first"], task="default", top_k=1))
        await eventually(classifier.encoder.entered.is_set)
        asked = [
            asyncio.create_task(batcher.submit(classifier, texts, task=task, top_k=1))
            for texts, task in ((["a", "b"], "default"), (["b", "c"], "tone"), (["b"], "tone"))
        ]
        await asyncio.sleep(0)
        classifier.encoder.open.set()
        await first
        answers = [labels(one) for one in await asyncio.gather(*asked)]
    assert classifier.encoder.batches == [["first"], ["a", "b", "c"]]
    assert answers == [[expected_label(1, text) for text in texts] for texts in ("ab", "bc", "b")]


async def test_a_request_of_many_texts_takes_turns_with_the_others() -> None:
    classifier = NumberedClassifier(1)
    async with running(max_batch=2) as batcher:
        classifier.encoder.open.clear()
        long = asyncio.create_task(batcher.submit(classifier, list("abcdef"), task="default", top_k=1))
        await eventually(classifier.encoder.entered.is_set)
        short = asyncio.create_task(batcher.submit(classifier, ["x"], task="default", top_k=1))
        await asyncio.sleep(0)
        classifier.encoder.open.set()
        await short
        assert labels(await long) == [expected_label(1, text) for text in "abcdef"]
    assert "x" in [text for batch in classifier.encoder.batches[:3] for text in batch]


async def test_a_full_queue_is_a_429_with_a_time() -> None:
    classifier = NumberedClassifier(1)
    async with running(predict_queue=2) as batcher:
        classifier.encoder.open.clear()
        held = asyncio.create_task(batcher.submit(classifier, ["held"], task="default", top_k=1))
        await eventually(classifier.encoder.entered.is_set)
        waiting = asyncio.create_task(batcher.submit(classifier, ["a", "b"], task="default", top_k=1))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as refused:
            await batcher.submit(classifier, ["c"], task="default", top_k=1)
        assert refused.value.details["retry_after"] == 1
        classifier.encoder.open.set()
        await asyncio.gather(held, waiting)


async def test_what_expired_or_was_cancelled_is_dropped_before_compute() -> None:
    classifier = NumberedClassifier(1)
    async with running(predict_timeout_ms=300) as batcher:
        classifier.encoder.open.clear()
        asked = [asyncio.create_task(batcher.submit(classifier, ["running"], task="default", top_k=1))]
        await eventually(classifier.encoder.entered.is_set)
        asked += [
            asyncio.create_task(batcher.submit(classifier, [text], task="default", top_k=1))
            for text in ("expired", "cancelled")
        ]
        await asyncio.sleep(0)
        asked[2].cancel()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in results] == [DeadlineExceeded, DeadlineExceeded, asyncio.CancelledError]
        classifier.encoder.open.set()
        await eventually(lambda: batcher._waiting == 0)
    assert classifier.encoder.batches == [["running"]]


async def test_a_text_that_breaks_the_encoder_fails_only_its_own_request() -> None:
    classifier = NumberedClassifier(1)
    async with running() as batcher:
        classifier.encoder.open.clear()
        asked = [
            asyncio.create_task(batcher.submit(classifier, [text], task="default", top_k=1))
            for text in ("first", "good", "poison", "fine")
        ]
        await eventually(classifier.encoder.entered.is_set)
        classifier.encoder.open.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in results] == [list, list, ValueError, list]


async def test_closing_ends_the_thread_and_what_still_waits() -> None:
    classifier = NumberedClassifier(1)
    batcher = Batcher(Settings(), AppMetrics(), threads=1)
    batcher.start()
    classifier.encoder.open.clear()
    running_one = asyncio.create_task(batcher.submit(classifier, ["running"], task="default", top_k=1))
    await eventually(classifier.encoder.entered.is_set)
    waiting = asyncio.create_task(batcher.submit(classifier, ["waiting"], task="default", top_k=1))
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    classifier.encoder.open.set()
    await closing
    assert labels(await running_one) == [expected_label(1, "running")]
    with pytest.raises(Draining):
        await waiting
    with pytest.raises(Draining):
        await batcher.submit(classifier, ["late"], task="default", top_k=1)
