"""A request for another encoder: done once, gone on with after a crash, tried again when the machine was at fault."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.versions import SqlVersionLedger
from pawl.domain.encoders import EncoderChoice, EncoderRequestState
from pawl.domain.versions import LedgerChange, VersionKind
from pawl.ports import Encoder, Floats
from tests.learners import new_learner, opened
from tests.pawl.contract.backends import candidate
from tests.processes import TRAINED_SAMPLES, Installer
from worker.consolidation.progress import Progress
from worker.consolidation.replacement import embed_into
from worker.state.first_encoder import first_state
from worker.updates.encoder_requests import Requests

CHOICE = EncoderChoice("some/encoder", None, None, 64, 1, "float32", 16, 0, 256)


class Dying:
    """An encoder under another digest, whose process dies at the second page."""

    digest = "d" * 64

    def __init__(self, encoder: Encoder, pages: int) -> None:
        self._encoder = encoder
        self._pages = pages
        self.dimension = encoder.dimension
        self.texts = 0

    def encode(self, texts: Sequence[str]) -> Floats:
        if not self._pages:
            raise KeyboardInterrupt
        self._pages -= 1
        self.texts += len(texts)
        return self._encoder.encode(texts)


async def test_what_is_embedded_stays_when_the_process_dies(install: Installer) -> None:
    pawl = install.trained()
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        state = await learner.runner.catch_up()
        assert state is not None
        ids = [sample.id for sample in await learner.samples.learned("default")]
        assert len(ids) == TRAINED_SAMPLES > 128
        progress = Progress(io.StringIO())
        with pytest.raises(KeyboardInterrupt):
            await embed_into(learner.samples, Dying(state.encoder, 1), ids, progress)
        again = Dying(state.encoder, 10)
        computed = await embed_into(learner.samples, again, ids, progress)
        assert computed == again.texts == TRAINED_SAMPLES - 128
        assert len(await learner.samples.get_embeddings(Dying.digest, ids)) == TRAINED_SAMPLES


async def test_the_same_encoder_with_other_features_is_another_head(install: Installer) -> None:
    """Snapshots and the ledger of before fit the encoder, but not the features."""
    pawl = install.trained(gate_max_latency_ratio=100, gate_max_drop=1, gate_max_class_drop=1, gate_max_ece_rise=1)
    async with opened(pawl) as engine:
        follower = new_learner(pawl.settings, engine)
        before = await follower.runner.catch_up()
        assert before is not None and before.made_with is not None  # noqa: PT018
        choice = replace(before.made_with.choice, random_features=48, seed=5)
        asked = await follower.ledger.request_encoder(choice, "a test", None)
        assert await asyncio.to_thread(pawl.start_worker("--drain").wait) == 0
        settled = await follower.ledger.encoder_request(asked.id)
        assert settled.state is EncoderRequestState.APPLIED, settled
        live = await follower.ledger.live()
        assert live is not None
        assert (live.kind, live.number, live.reason) == (VersionKind.ENCODER, settled.version, "a test")
        assert live.encoder_digest == before.encoder.digest
        width = before.features.dimension + 48 + 1
        for learner in (follower, new_learner(pawl.settings, engine)):
            state = await learner.runner.catch_up()
            assert state is not None
            assert (state.version, state.samples, state.features.width) == (live.number, TRAINED_SAMPLES, width)
            assert state.tasks["default"].heads["semantic"].dimension == width
            assert state.made_with is not None
            assert state.made_with.choice == choice
        sent = await follower.accept([("a wholly new text about a card", "card")])
        await follower.learn_queued()
        assert (await follower.samples.get(sent[0])).state.value == "learned"


async def test_a_fault_of_the_machine_is_tried_again_and_an_unusable_encoder_is_not(
    monkeypatch: pytest.MonkeyPatch, database: AsyncEngine
) -> None:
    ledger, now = SqlVersionLedger(database), 100.0
    # Its own clock, not everybody's: what waits for the database elsewhere goes by the real one.
    monkeypatch.setattr("worker.updates.encoder_requests.time", SimpleNamespace(monotonic=lambda: now))
    mine = Requests(ledger)
    asked = await ledger.request_encoder(CHOICE, None, None)
    assert await mine.next() == asked
    await mine.failed(asked, "no space left on device", for_good=False)
    now += 4
    assert await mine.next() is None
    now += 2
    assert await mine.next() == asked
    await mine.failed(asked, "it has no config.json", for_good=True)
    now += 1000
    assert await mine.next() is None
    settled = await ledger.encoder_request(asked.id)
    assert (settled.state, settled.problem) == ("failed", "it has no config.json")


async def test_one_that_came_to_a_version_before_the_process_died_is_settled_and_not_done_again(
    database: AsyncEngine,
) -> None:
    ledger = SqlVersionLedger(database)
    asked = await ledger.request_encoder(CHOICE, None, None)
    made = replace(candidate(1, None, VersionKind.ENCODER), metrics={"encoder_request": asked.id})
    await ledger.promote(made, LedgerChange())
    assert await Requests(ledger).next() is None
    settled = await ledger.encoder_request(asked.id)
    assert (settled.state, settled.version) == ("applied", 1)


def test_an_encoder_is_exported_again_when_its_folder_has_other_contents(install: Installer, tmp_path: Path) -> None:
    from pawl.classifier.encoders.choice import Backends
    from tests.tiny_encoder import write_tiny_encoder

    pawl = install.empty()
    source = write_tiny_encoder(tmp_path / "source", seed=8)
    settings = pawl.settings.model_copy(update={"encoder": str(source)})
    first = first_state(settings, Backends.of(settings).open)
    write_tiny_encoder(source, seed=9)
    second = first_state(settings, Backends.of(settings).open)
    assert first.encoder.digest != second.encoder.digest
