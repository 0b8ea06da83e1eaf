"""A forced version is exactly what it was when it was refused, with its samples; what comes after builds on it."""

from __future__ import annotations

from itertools import islice

import numpy as np

from pawl.domain.quarantine import Review, ReviewAction
from pawl.domain.samples import Sample, SampleState
from pawl.domain.versions import Version, VersionState
from tests.banking import KNOWN, NEW, rows, texts
from tests.direct_solve import relative_error
from tests.intents import Labelled
from tests.processes import Installer
from tests.worker.banks import Bank, bank
from tests.worker.lives import assert_exact, assert_same, live

LEARNED, QUEUED = SampleState.LEARNED, SampleState.QUEUED


def refused_rows() -> list[Labelled]:
    """Good ones, a double of a known label, and flipped ones."""
    return [
        *rows(list(NEW), 8, seed=5),
        *((text, "refund") for text in islice(texts("refund_status", seed=8), 30)),
        *((text, "exchange_rate") for text in islice(texts("card_blocked", seed=8), 60)),
    ]


async def refused_import(made: Bank) -> tuple[Version, list[str]]:
    """Imports them; the refused whole. What does no harm of it was learned."""
    ids = await made.import_rows(refused_rows())
    await made.learner.learn_queued()
    [whole] = await made.versions(VersionState.REFUSED)
    fates = await made.fates(ids)
    assert set(fates) == {"learned", "quarantined"}
    return whole, ids


async def assert_serves(made: Bank, refused: Version) -> None:
    """What is live, in the files, in SQL and in the learner, is the refused head."""
    version = await live(made.learner)
    wanted, served = (made.pawl.offline(one.number).heads["default"].semantic for one in (refused, version))
    assert served.labels == wanted.labels
    assert np.array_equal(served.weights, wanted.weights)
    learner = made.state.tasks["default"]
    columns = [learner.labels.index(label) for label in wanted.labels]
    weights = learner.heads["semantic"].weights.double().cpu().numpy()[:, columns]
    assert relative_error(weights, wanted.weights.astype(np.float64)) < 1e-5
    await assert_exact(made)


async def test_a_forced_version_is_exactly_what_it_was_when_it_was_refused(install: Installer) -> None:
    async with bank(install) as made:
        whole, ids = await refused_import(made)
        later = await made.learner.accept([(next(texts("pin_change", seed=9)), "pin_change")])
        await made.learner.learn_queued()
        await made.learner.promote_again(whole.number, reason="they are right")
        assert set(await made.fates(ids)) == {"learned"}
        [correction] = await made.learner.samples.get_many(later)
        assert correction.state is QUEUED
        assert "on top of version" in (correction.reason or "")

        await made.learner.runner.catch_up()  # follows the ledger
        await assert_serves(made, whole)
        assert_same(made.state, await made.restarted())  # makes everything anew
        for snapshot in made.snapshots:
            snapshot.unlink()
        assert_same(made.state, await made.restarted())


async def test_the_next_unrelated_correction_forgets_nothing(install: Installer) -> None:
    async with bank(install) as made:
        whole, ids = await refused_import(made)
        await made.learner.accept([(next(texts("pin_change", seed=9)), "pin_change")])
        await made.learner.learn_queued()
        await made.learner.promote_again(whole.number, reason="they are right")
        await made.learner.learn_queued()  # what came since, on top of it
        await made.learner.accept([(next(texts("tax_form", seed=9)), "tax_form")])
        await made.learner.learn_queued()
        assert set(await made.fates(ids)) == {"learned"}
        version = await live(made.learner)
        assert version.gate["accepted"]
        counts = await made.learner.samples.label_counts("default")
        assert set(version.labels["default"]) == {*KNOWN, *NEW, "refund"} == set(counts)
        assert (counts["pin_change"], counts["tax_form"]) == (34, 34)
        assert not await made.learner.samples.queued(10)
        await assert_exact(made)


async def test_what_a_refused_version_would_have_replaced_leaves_with_it(install: Installer) -> None:
    """And comes back where the forced version is rolled back, but for what the live one has replaced itself."""
    async with bank(install, quarantine_window=0, probation_window=0) as made:
        known = await made.learner.samples.learned("default")
        old = [one for one in known if one.label == "card_blocked"][:12]
        flipped = [*(one.text for one in old), *islice(texts("card_blocked", seed=8), 60)]
        ids = await made.learner.accept([(text, "exchange_rate") for text in flipped])
        await made.learner.parts.head_update.learn(ids)
        [whole] = await made.versions(VersionState.REFUSED)
        before = (await live(made.learner)).number
        fates, replaced = await made.fates(ids), await replaced_by(made, old)
        held = [one for one in old if replaced[one.id] is None]  # its correction was refused
        assert len(held) >= 5
        await made.learner.promote_again(whole.number, reason="they are right")
        await made.learner.runner.catch_up()
        assert {one.state for one in await made.learner.samples.get_many(ids)} == {LEARNED}
        assert await replaced_by(made, old) == dict(zip([one.id for one in old], ids, strict=False))
        await assert_serves(made, whole)
        await made.learner.promote_again(before, reason="they were not")
        await made.learner.learn_queued()
        found = await made.learner.samples.get_many([one.id for one in held])
        assert {one.state for one in found} == {LEARNED}
        assert await replaced_by(made, old) == replaced
        assert await made.fates(ids) == fates
        await assert_exact(made)


async def replaced_by(made: Bank, samples: list[Sample]) -> dict[str, str | None]:
    """Which newer sample has taken the place of each."""
    found = await made.learner.samples.get_many([one.id for one in samples])
    return {one.id: one.replaced_by for one in found}


async def test_a_correction_that_was_learned_otherwise_since_has_the_weight_it_would_have_had(
    install: Installer,
) -> None:
    """Its emphasis is another one in the part that was learned than in the whole that was refused."""
    async with bank(install, quarantine_window=0, probation_window=0) as made:
        pairs = [(text, "exchange_rate") for text in islice(texts("card_blocked", seed=8), 60)]
        pairs += [(text, "tax_form") for text in islice(texts("profit_news", seed=8), 3)]
        ids = await made.learner.accept(pairs)
        await made.learner.parts.head_update.learn(ids)
        [whole] = await made.versions(VersionState.REFUSED)
        await made.learner.promote_again(whole.number, reason="they are right")
        await made.learner.runner.catch_up()
        assert set(await made.fates(ids)) == {"learned"}
        await assert_serves(made, whole)
        assert_same(made.state, await made.restarted())


async def test_what_its_client_or_a_reviewer_took_out_stays_out_of_a_forced_version(install: Installer) -> None:
    async with bank(install) as made:
        whole, ids = await refused_import(made)
        held = await made.get(ids, SampleState.QUARANTINED)
        await made.learner.samples.request_retraction(held[0].id)
        await made.learner.samples.review(held[1].id, Review(ReviewAction.DISCARD, "nonsense", "ann"))
        version = await made.learner.promote_again(whole.number, reason="they are right")
        assert sorted(version.gate["pending_unlearn"]) == sorted(one.id for one in held[:2])
        await made.learner.runner.catch_up()
        assert (await live(made.learner)).trigger == "retraction"
        states = {one.state for one in await made.learner.samples.get_many([one.id for one in held[:2]])}
        assert states == {SampleState.RETRACTED, SampleState.REJECTED}
        await assert_exact(made)
