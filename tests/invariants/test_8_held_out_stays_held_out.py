"""Held-out stays held out, and nothing is judged with its own label inside or by an encoder that was trained on it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.classifier.encoders.spec import encoder_digest
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.gate_reports import GateReport
from pawl.domain.samples import NewSample, Sample, SampleState, Split, digest_text, split_of
from pawl.domain.versions import HeadInfo, LedgerAction, LedgerChange, NewVersion, Version, VersionKind
from tests.databases import open_database
from tests.direct_solve import direct_weights, features
from tests.intents import labelled
from tests.learners import Learner, new_learner, opened
from tests.processes import LENIENT, Installer
from worker.consolidation.data.inputs import read_inputs
from worker.consolidation.data.replay import select
from worker.release.publisher import Draft
from worker.state.learner_state import LearnerState
from worker.state.snapshots import pack

HELDOUT = 0.3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _full_width(word: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) for one in word)


def test_the_split_of_a_text_is_the_same_in_every_process_and_year() -> None:
    texts = ["Where is my card?", "the train is late", "STRASSE", "100 %", "\N{SNOWMAN}"]
    assert [digest_text(text)[:8] for text in texts] == ["e310733a", "aeb2f27c", "16d96952", "5e1636c0", "51643361"]
    assert [split_of(digest_text(text), 0.1) is Split.HELDOUT for text in texts] == [False, False, True, False, False]


@given(
    words=st.lists(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1), min_size=1, max_size=5),
    write=st.sampled_from([str, str.upper, str.lower, _full_width]),
    outer=st.sampled_from(["", " ", "\n\t "]),
    between=st.sampled_from(["  ", "\t", "\u00a0", "\u2003"]),
    fractions=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
)
def test_the_split_does_not_see_case_spaces_or_width_and_grows_with_the_fraction(
    words: list[str], write: Callable[[str], str], outer: str, between: str, fractions: tuple[float, float]
) -> None:
    digest = digest_text(" ".join(words))
    assert digest_text(outer + between.join(map(write, words)) + outer) == digest
    small, large = sorted(fractions)
    if split_of(digest, small) is Split.HELDOUT:
        assert split_of(digest, large) is Split.HELDOUT


_items = st.lists(
    st.builds(
        NewSample,
        text=st.sampled_from([form for n in range(30) for form in (f"text {n}", f"  TEXT\t{n} ")]),
        label=st.sampled_from("abc"),
        task=st.sampled_from(["default", "mood"]),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        golden=st.sampled_from([False, False, False, True]),
        pinned=st.booleans(),
        create_task=st.just(True),
    ),
    max_size=60,
)


@given(calls=st.lists(_items, min_size=1, max_size=3), seed=st.integers(0, 9), data=st.data())
@settings(max_examples=60)
def test_a_consolidation_never_trains_on_what_the_store_holds_out(
    calls: list[list[NewSample]], seed: int, data: st.DataObject
) -> None:
    async def learn_and_read(database: AsyncEngine) -> tuple[list[Sample], list[str]]:
        samples, ledger = SqlSampleStore(database, heldout_fraction=HELDOUT), SqlVersionLedger(database)
        ids: list[str] = []
        for call in calls:
            ids += [receipt.id for receipt in await samples.accept(call)]
        learned = tuple(sample.id for sample in await samples.queued(1000))
        trained = data.draw(st.lists(st.sampled_from(learned), unique=True)) if learned else []
        info = HeadInfo("0" * 64, ("a", "b", "c"), 1.0)
        heads = {"default": info, "mood": info}
        first = NewVersion(1, None, VersionKind.BOOTSTRAP, "test", "0" * 64, heads, "0" * 64, 1)
        await ledger.promote(first, LedgerChange(learned=learned, trained=tuple(trained)))
        inputs = await read_inputs(samples, ledger, 1, 10**9)
        chosen = select(
            inputs.learned,
            inputs.seen,
            frozenset(one.text_digest for one in inputs.golden),
            replay_per_class=10,
            validation_share=0.3,
            validation_limit=20,
            limit=1000,
            seed=seed,
        )
        return await samples.get_many(ids), [one.id for one in (*chosen.new, *chosen.replayed, *chosen.validation)]

    async def with_a_database() -> tuple[list[Sample], list[str]]:
        with tempfile.TemporaryDirectory() as folder:
            database = open_database(Path(folder))
            try:
                return await learn_and_read(database)
            finally:
                await database.dispose()

    stored, chosen = asyncio.run(with_a_database())
    golden = {digest_text(sample.text) for sample in stored if sample.state is SampleState.GOLDEN}
    splits: dict[str, set[Split]] = {}
    for sample in stored:
        if sample.split is not Split.GOLDEN:
            splits.setdefault(digest_text(sample.text), set()).add(sample.split)
    for digest, found in splits.items():  # whatever the task, the label, the weight and the form
        assert found == {split_of(digest, HELDOUT)}
    for sample in [sample for sample in stored if sample.id in chosen]:
        assert sample.state is SampleState.LEARNED
        assert digest_text(sample.text) not in golden
        assert split_of(digest_text(sample.text), HELDOUT) is Split.TRAIN


async def test_what_judges_a_sample_is_the_head_fitted_without_it(install: Installer) -> None:
    pawl = install.trained(**LENIENT)
    async with opened(pawl) as engine:
        teacher = new_learner(pawl.settings, engine)
        heavy = await teacher.accept(labelled(4, seed=80), weight=2.5)
        golden = await teacher.accept(labelled(3, seed=81), golden=True)
        await teacher.learn_queued()
        shutil.rmtree(pawl.settings.snapshots_path, ignore_errors=True)
        learner = new_learner(pawl.settings, engine)
        state = await _caught_up(learner)
        live = await _live(learner)
        learned = await learner.samples.learned("default", limit=10_000)
        judges = {sample.id: sample for sample in [*learned, *await learner.samples.golden("default", 100)]}
    model, task = pawl.offline(live.number), state.tasks["default"]
    scores = task.leave_one_out().numpy()
    assert tuple(task.labels) == tuple(model.heads["default"].labels)
    rows = {item.sample_id: row for row, item in enumerate(task.evaluation.items)}
    assert {*heavy, *golden} <= set(rows)
    for name in [*list(rows)[::25], *heavy, *golden]:
        rest = [sample for sample in learned if sample.id != name]
        counts = Counter(sample.label for sample in rest)
        expected = np.array([-pawl.settings.prior_correction * np.log(counts[label]) for label in task.labels])
        for head, regularisation in live.metrics["regularisation"]["default"].items():
            phi = features(model, [judges[name].text], head)[0]
            expected += task.stacking.share(head) * (phi @ direct_weights(model, rest, regularisation, head=head))
        np.testing.assert_allclose(scores[rows[name]], expected, atol=1e-5)


async def test_a_real_worker_never_learns_golden_samples_and_judges_with_them(install: Installer) -> None:
    pawl = install.trained(**LENIENT)
    pairs = labelled(12, seed=82)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        golden = await learner.accept(pairs[:4], golden=True)
        assert await learner.accept(pairs[:4]) == golden  # sent as feedback they stay what they are
        given_ids = await learner.accept(pairs[4:])
        drain = pawl.start_worker("--drain")
        assert await asyncio.to_thread(drain.wait) == 0, drain.output()
        rows = await learner.ledger.ledger(0)
        assert {row.sample_id for row in rows} >= set(given_ids)
        assert not {row.sample_id for row in rows} & set(golden)
        assert {one.state for one in await learner.samples.get_many(golden)} == {SampleState.GOLDEN}
        shutil.rmtree(pawl.settings.snapshots_path, ignore_errors=True)
        state = await _caught_up(new_learner(pawl.settings, engine))
    seated = {item.sample_id for item in state.tasks["default"].evaluation.items if item.golden}
    assert seated == set(golden)


async def test_what_an_encoder_was_trained_on_is_never_on_the_panel_again(install: Installer) -> None:
    pawl = install.trained(heldout_fraction=HELDOUT, **LENIENT)
    async with opened(pawl) as engine:
        before = new_learner(pawl.settings, engine)
        state = await _caught_up(before)
        learned = await before.samples.learned("default")
        trained = {sample.id for sample in learned if sample.split is Split.TRAIN}
        assert trained & _panel(state)
        await _consolidate(before, state, tuple(trained), pawl.home / "other-encoder")
        kept = {sample.id for sample in learned} - trained
        for _ in ("made anew", "from the snapshot"):
            learner = new_learner(pawl.settings, engine)
            state = await _caught_up(learner)
            assert _panel(state) == kept
            fresh = await learner.accept(labelled(5, seed=len(kept)))
            await learner.learn_queued()
            kept |= set(fresh)
            assert _panel(state) == kept
            learner.parts.snapshots.write(pack(state))
        texts = [sample.text for sample in await before.samples.get_many(sorted(trained)[:3])]
        relabelled = await learner.accept([(text, "another label") for text in texts])
        await learner.learn_queued()
        assert not set(relabelled) & _panel(state)  # other samples, but texts that the encoder was trained on
        again = await before.samples.get_many(sorted(trained)[:3])
        assert all([await before.samples.versions_trained_on(one.id) for one in again])
        assert await _actions(before, again) == {LedgerAction.LEARN, LedgerAction.UNLEARN, LedgerAction.ENCODER}
    model = state.tasks["default"]
    chosen = replace(model.hyperparameters, regularisation=dict.fromkeys(model.heads, 0.5))
    paired = model.propose_settings(chosen).paired
    assert {item.sample_id for item in paired.items} == kept


async def _consolidate(learner: Learner, state: LearnerState, trained: tuple[str, ...], folder: Path) -> None:
    """A promotion as after a consolidation, whose encoder differs by a line's end."""
    shutil.copytree(state.encoder_folder, folder)
    with (folder / "config.json").open("a") as file:
        file.write("\n")
    publisher = learner.parts.publisher
    draft = Draft(
        kind=VersionKind.CONSOLIDATION,
        trigger="test",
        parent=state.version,
        encoder_folder=folder,
        encoder_digest=encoder_digest(folder),
        heads=state.heads({}, state.next_novelty({})),
        features=state.features,
        settings={},
        watermark=state.watermark,
        made_with=state.made_with,
        metrics=(await _live(learner)).metrics,
    )
    written = await publisher.write(draft)
    report = GateReport(accepted=True, reasons=(), tasks={})
    await publisher.promote(written, report, LedgerChange(trained=trained))


async def _caught_up(learner: Learner) -> LearnerState:
    state = await learner.runner.catch_up()
    assert state is not None
    return state


async def _live(learner: Learner) -> Version:
    live = await learner.ledger.live()
    assert live is not None
    return live


def _panel(state: LearnerState) -> set[str]:
    return {item.sample_id for item in state.tasks["default"].evaluation.items}


async def _actions(learner: Learner, samples: list[Sample]) -> set[LedgerAction]:
    ids = {sample.id for sample in samples}
    return {row.action for row in await learner.ledger.ledger(0) if row.sample_id in ids}
