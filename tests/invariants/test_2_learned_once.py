"""No sample enters a lineage twice: not by redelivery, repeats, two workers, or a crash between any two steps."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from itertools import count, product

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.domain.errors import ParentNotLive
from pawl.domain.samples import SampleState
from pawl.domain.versions import LedgerAction, LedgerRow
from tests.direct_solve import direct_weights, relative_error
from tests.intents import Labelled, labelled
from tests.invariants.kills import Outcome
from tests.learners import Crash, Fuse, Learner, new_learner, opened
from tests.processes import LENIENT, TRAINED_SAMPLES, Installation, Installer

LEARN, UNLEARN = LedgerAction.LEARN, LedgerAction.UNLEARN


def by_sample(ledger: list[LedgerRow]) -> dict[str, list[LedgerAction]]:
    """What the ledger says of each sample, in order."""
    found: defaultdict[str, list[LedgerAction]] = defaultdict(list)
    for row in ledger:
        found[row.sample_id].append(row.action)
    return found


@pytest.mark.timeout(900)
def test_twenty_kills_and_thirty_percent_duplicates_leave_one_learn_row_for_each_sample(killed: Outcome) -> None:
    said = by_sample(killed.ledger)
    assert len(killed.learned) == TRAINED_SAMPLES + len(killed.accepted) - len(killed.replaced)
    for sample in killed.learned:
        assert said[sample.id] == [LEARN]
    for sample_id in killed.replaced:
        assert said[sample_id] in ([], [LEARN, UNLEARN])


@pytest.mark.timeout(900)
def test_the_head_after_twenty_kills_is_the_joint_fit_on_what_is_learned(killed: Outcome) -> None:
    live, model = killed.live, killed.model
    assert live is not None
    assert model is not None
    expected = direct_weights(model, killed.learned, live.metrics["regularisation"]["default"]["semantic"])
    assert relative_error(model.heads["default"].semantic.weights, expected) < 1e-4


@pytest.fixture(params=["sqlite", "postgresql"])
async def stored(request: pytest.FixtureRequest, install: Installer) -> AsyncIterator[tuple[Installation, AsyncEngine]]:
    """An installation with version 1, and its database."""
    if request.param == "postgresql":
        pawl = install.empty(database_url=request.getfixturevalue("postgres_url"), **LENIENT)
    else:
        pawl = install.trained(**LENIENT)
    async with opened(pawl) as engine:
        yield pawl, engine


async def test_a_crash_between_any_two_steps_is_made_good_by_the_next_start(
    stored: tuple[Installation, AsyncEngine],
) -> None:
    pawl, engine = stored
    fresh = iter(labelled(5000, seed=2))
    crashes: set[str] = set()
    for step in count(1, 1 if pawl.settings.database_url is None else 4):  # the learner is the same on both
        await _queue_one_of_each(new_learner(pawl.settings, engine), fresh)
        fuse = Fuse(step)
        try:
            await new_learner(pawl.settings, engine, fuse).learn_queued()
        except Crash:
            crashes.add(fuse.burnt)
        else:
            break
        await new_learner(pawl.settings, engine).learn_queued()
    if pawl.settings.database_url is None:
        assert {"after put_embeddings", "before publish", "after publish", "before promote"} <= crashes
        assert {"after promote", "before hint_version", "after hint_version"} <= crashes
    await _check_lineage(pawl, new_learner(pawl.settings, engine))


async def test_two_learners_that_overtake_each_other_learn_each_sample_once(
    stored: tuple[Installation, AsyncEngine],
) -> None:
    """Each believes that it leads, as after a pause longer than its lease: one promotes while the other reads.

    One that starts from a snapshot is robbed of its own samples as well; one that reads the whole store is not.
    """
    pawl, engine = stored
    fresh = iter(labelled(5000, seed=3))
    overtaken: list[str] = []
    reads_all = ("learned", "get_embeddings", "rivals", "next_number")
    follows = ("get_many", "get_embeddings", "rivals", "next_number")
    cases = [*product(follows, [True]), *product(reads_all, [False])]
    for method, from_snapshot in cases:
        rival = new_learner(pawl.settings, engine)
        await rival.runner.catch_up()

        async def overtake(rival: Learner = rival, method: str = method, *, greedy: bool = from_snapshot) -> None:
            overtaken.append(method)
            ids = await rival.accept([next(fresh) for _ in range(3)])
            await rival.runner.catch_up()
            await (rival.learn_queued() if greedy else rival.parts.head_update.learn(ids))

        if not from_snapshot:
            shutil.rmtree(pawl.settings.snapshots_path, ignore_errors=True)
        assert any(pawl.settings.snapshots_path.glob("*.json")) == from_snapshot
        slow = new_learner(pawl.settings, engine, meanwhile={f"before {method}": overtake})
        for _ in range(2):  # what it took for the truth while it was overtaken shows in what it makes of it next
            await slow.accept([next(fresh) for _ in range(3)])
            await _until_learned(slow)
        slow.meanwhile.clear()
        await _check_lineage(pawl, slow)
    assert len(overtaken) == len(cases)


async def test_two_learners_that_write_a_candidate_at_once_do_not_touch_each_others_files(
    stored: tuple[Installation, AsyncEngine],
) -> None:
    pawl, engine = stored
    fresh = iter(labelled(100, seed=4))
    slow = new_learner(pawl.settings, engine)
    await slow.accept([next(fresh)])

    async def write_another() -> None:
        dying = new_learner(pawl.settings, engine, Fuse(where="after publish"))
        await dying.accept([next(fresh)])
        with pytest.raises(Crash):
            await dying.learn_queued()

    for moment in ("before next_number", "after next_number", "before promote"):
        slow.meanwhile[moment] = write_another
        await slow.accept([next(fresh)])
        await slow.learn_queued()
        live = await slow.ledger.live()
        assert live is not None
        assert pawl.artefacts.open(live.number).manifest.heads == live.heads
    await _until_learned(slow)
    await _check_lineage(pawl, slow)


async def _queue_one_of_each(learner: Learner, fresh: Iterator[Labelled]) -> None:
    """New samples, one that replaces a learned one, one that is replaced before it is learned, and a retraction."""
    old = (await learner.samples.learned("default"))[-4:]
    text, label = next(fresh)
    other = "profit" if label != "profit" else "card"
    await learner.accept([next(fresh), (text, other), (text, label)])
    await learner.accept([(old[0].text, "profit" if old[0].label != "profit" else "card")])
    await learner.samples.request_retraction(old[1].id)


async def _until_learned(learner: Learner) -> None:
    for _ in range(5):
        try:
            await learner.learn_queued()
        except ParentNotLive:
            continue
        if not (await learner.samples.backlog()).length:
            return
    raise AssertionError("never got its turn")


async def _check_lineage(pawl: Installation, learner: Learner) -> None:
    """The ledger nets to what is learned, and the live head is the joint fit on exactly that."""
    learned = await learner.samples.learned("default", limit=100_000)
    assert {sample.state for sample in learned} == {SampleState.LEARNED}
    assert (await learner.samples.queued(10)) == []
    said = by_sample(await learner.ledger.ledger(0))
    for actions in said.values():
        assert actions in ([LEARN], [LEARN, UNLEARN])
    assert {name for name, actions in said.items() if actions == [LEARN]} == {sample.id for sample in learned}
    live = await learner.ledger.live()
    assert live is not None
    model = pawl.offline(live.number)
    expected = direct_weights(model, learned, live.metrics["regularisation"]["default"]["semantic"])
    assert relative_error(model.heads["default"].semantic.weights, expected) < 1e-4
