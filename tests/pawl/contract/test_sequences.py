"""Whatever is called in whatever order, the invariants of learning hold, and every question has an answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pawl.domain.errors import PawlError
from pawl.domain.labels import LabelChangeKind, LabelChangeState, LabelRequest
from pawl.domain.quarantine import Doubt, Hold, QuarantineFilter, QuarantineKind, Review, ReviewAction
from pawl.domain.samples import ACTIVE_STATES, IdempotencyKey, NewSample, Sample, SampleState
from pawl.domain.versions import HeadInfo, LedgerAction, LedgerChange, LedgerRow, Version, VersionState
from tests.databases import new_database, sqlite_url
from tests.pawl.contract.backends import OpenStores, candidate, sql_stores
from tests.pawl.contract.label_changes import carry_out

ITEMS = st.builds(
    NewSample,
    text=st.sampled_from(["one", "One ", "two", "three"]),
    label=st.sampled_from(["a", "b"]),
    task=st.sampled_from(["default", "mood"]),
    weight=st.sampled_from([None, None, 1.0, 2.0]),
    source=st.sampled_from([None, "me", "you"]),
    golden=st.sampled_from([False, False, False, True]),
    pinned=st.sampled_from([False, False, True]),
    create_task=st.sampled_from([True, True, False]),
)
PICKS = st.lists(st.integers(0, 30), max_size=6, unique=True)
DOUBT = Doubt("a", opposed=True, plausible=False)
MOVES = ("learned", "unlearned", "replaced", "dropped", "quarantined", "trained", "restored", "requeued", "reweighted")
LABELS = st.sampled_from(["a", "b", "c"])
HEADS = {task: HeadInfo("d" * 64, ("a", "b"), 1.0) for task in ("default", "mood")}
HOW = ["with a version", "with a version", "without", "not"]
Call = Callable[[OpenStores], Awaitable[Any]]


class AnySequence(RuleBasedStateMachine):
    """Calls on one database; `names` holds the ids of the samples by their `seq`."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        url = sqlite_url(new_database(Path(self.folder.name)))
        self.stores = self.runner.run(self.stack.enter_async_context(sql_stores(url)))
        self.names: dict[int, str] = {}

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    def run_call(self, call: Callable[[OpenStores, dict[int, str]], Awaitable[Any]]) -> Any:
        """The result of the call, or the class of the error of ours that it raises."""

        async def run() -> Any:
            self.stores.clock.advance(seconds=1)
            try:
                return await call(self.stores, self.names)
            except PawlError as error:
                return type(error)

        return self.runner.run(run())

    def ids(self, names: dict[int, str], picks: list[int]) -> list[str]:
        return list(dict.fromkeys(names[1 + pick % len(names)] for pick in picks)) if names else []

    @rule(items=st.lists(ITEMS, min_size=1, max_size=4), key=st.sampled_from([None, None, "k1", "k2"]))
    def accept(self, items: list[NewSample], key: str | None) -> None:
        async def call(stores: OpenStores, names: dict[int, str]) -> list[tuple[int, SampleState, bool]]:
            body = None if key is None else IdempotencyKey(key, str(len(items)))
            receipts = await stores.samples.accept(items, body)
            seqs = {one.id: one.seq for one in await stores.samples.get_many([receipt.id for receipt in receipts])}
            names.update({seq: id for id, seq in seqs.items()})
            return [(seqs[receipt.id], receipt.state, receipt.is_new) for receipt in receipts]

        self.run_call(call)

    @rule(pick=st.integers(0, 30))
    def retract(self, pick: int) -> None:
        async def call(stores: OpenStores, names: dict[int, str]) -> list[Sample]:
            ids = self.ids(names, [pick])
            return [await stores.samples.request_retraction(id) for id in ids]

        self.run_call(call)

    @rule(picks=PICKS, state=st.sampled_from([SampleState.DEAD, SampleState.REJECTED, SampleState.QUARANTINED]))
    def settle(self, picks: list[int], state: SampleState) -> None:
        async def call(stores: OpenStores, names: dict[int, str]) -> int:
            return await stores.samples.settle(state, dict.fromkeys(self.ids(names, picks), "settled"))

        self.run_call(call)

    @rule(picks=PICKS, kind=st.sampled_from(QuarantineKind))
    def hold(self, picks: list[int], kind: QuarantineKind) -> None:
        async def call(stores: OpenStores, names: dict[int, str]) -> int:
            ids = self.ids(names, picks)
            return await stores.samples.hold(dict.fromkeys(ids, Hold(kind, "held")), dict.fromkeys(ids, DOUBT))

        self.run_call(call)

    @rule(pick=st.integers(0, 30), action=st.sampled_from(ReviewAction))
    def review(self, pick: int, action: ReviewAction) -> None:
        async def call(stores: OpenStores, names: dict[int, str]) -> list[Sample]:
            ids = self.ids(names, [pick])
            return [await stores.samples.review(id, Review(action, "looked", "ann")) for id in ids]

        self.run_call(call)

    @rule(
        moves=st.lists(st.sampled_from(MOVES), min_size=30, max_size=30),
        fitting=st.booleans(),
        back_to=st.none() | st.integers(0, 5),
    )
    def promote(self, moves: list[str], fitting: bool, back_to: int | None) -> None:
        """Each sample gets a move; unless `fitting` is false only those that its state allows."""

        async def call(stores: OpenStores, names: dict[int, str]) -> Version:
            number, live = await stores.ledger.next_number(), await stores.ledger.live()
            chosen: dict[str, list[str]] = {move: [] for move in MOVES}
            for (_, id), move in zip(sorted(names.items()), moves, strict=False):
                if not fitting or fits(await stores.samples.get(id), move):
                    chosen[move].append(id)
            unlearned, replaced, dropped, quarantined, requeued = (
                dict.fromkeys(chosen[move], f"replaced by {move}")
                for move in ("unlearned", "replaced", "dropped", "quarantined", "requeued")
            )
            learned = tuple(chosen["learned"])
            change = LedgerChange(
                learned,
                unlearned,
                replaced,
                dropped,
                quarantined,
                tuple(chosen["trained"]),
                doubts=dict.fromkeys(learned, DOUBT),
                emphasis=dict.fromkeys(learned[::2], 2.5),
                back_to=back_to,
                restored=tuple(chosen["restored"]),
                requeued=requeued,
                reweighted=tuple(chosen["reweighted"]),
                weighed=dict.fromkeys((*chosen["restored"], *chosen["reweighted"]), 1.5),
            )
            version = replace(candidate(number, live.number if live else None), heads=HEADS)
            return await stores.ledger.promote(version, change)

        outcome = self.run_call(call)
        assert isinstance(outcome, Version) or not fitting

    @rule(kind=st.sampled_from(LabelChangeKind), names=st.tuples(LABELS, LABELS), how=st.sampled_from(HOW))
    def change_label(self, kind: LabelChangeKind, names: tuple[str, str], how: str) -> None:
        """Asked for, and carried out with a version, without one, or not at all."""

        async def call(stores: OpenStores, _: dict[int, str]) -> object:
            label, other = names
            target = other if kind in {LabelChangeKind.RENAME, LabelChangeKind.MERGE} else None
            if kind is LabelChangeKind.DROP:
                target = {"a": None, "b": "me", "c": "you"}[other]
            change = await stores.labels.request(LabelRequest(kind, "default", label, target))
            if change.state is LabelChangeState.PENDING and how == "with a version":
                await carry_out(stores, change)
            elif change.state is LabelChangeState.PENDING:
                settled = stores.labels.apply(change.id) if how == "without" else stores.labels.fail(change.id, "no")
                await settled
            return await stores.labels.get(change.id)

        self.run_call(call)

    @rule(picks=PICKS)
    def refuse(self, picks: list[int]) -> None:
        async def call(stores: OpenStores, names: dict[int, str]) -> Version:
            ids = self.ids(names, picks)
            change, harmful = LedgerChange(learned=tuple(ids)), dict.fromkeys(ids[::2], "bad")
            version = candidate(await stores.ledger.next_number(), None)
            refused = await stores.ledger.refuse(version, change, harmful)
            assert [row.sample_id for row in await stores.ledger.refused(refused.number)] == sorted(ids)
            return refused

        self.run_call(call)

    @invariant()
    def nothing_is_lost_and_each_sample_is_learned_once(self) -> None:
        async def look() -> None:
            stores, store, names = self.stores, self.stores.samples, self.names
            samples, rows = await store.get_many(list(names.values())), await stores.ledger.ledger(0)
            versions = await stores.ledger.page(None, 1000)
            check_invariants(names, samples, rows, versions)
            learned = [sample.label for sample in samples if in_state(sample, "default", SampleState.LEARNED)]
            assert await store.label_counts("default") == Counter(learned)
            assert all(sample.state is SampleState.RETRACTED for sample in samples if sample.replaced_by is not None)
            held = [sample for sample in samples if sample.state is SampleState.QUARANTINED]
            assert await store.quarantined(QuarantineFilter(), None, 1000) == held[::-1]
            kinds = Counter(sample.quarantined_by for sample in held if sample.quarantined_by is not None)
            assert await store.quarantine_counts() == kinds
            waiting = [sample for sample in samples if sample.state is SampleState.QUEUED]
            assert (await store.backlog()).length == len(waiting)
            active = [sample for sample in samples if sample.task == "default" and sample.state in ACTIVE_STATES]
            listed = await stores.labels.summaries("default")
            assert sum(sum(summary.samples.values()) for summary in listed) == len(active)

        self.runner.run(look())


def in_state(sample: Sample, task: str, state: SampleState) -> bool:
    return sample.task == task and sample.state is state


def check_invariants(
    names: dict[int, str], samples: list[Sample], rows: list[LedgerRow], versions: list[Version]
) -> None:
    """Nothing accepted is lost; nothing is in a lineage twice; one version is live."""
    assert [sample.id for sample in samples] == [id for _, id in sorted(names.items())]
    net: Counter[str] = Counter()
    for row in rows:
        net[row.sample_id] += {LedgerAction.LEARN: 1, LedgerAction.UNLEARN: -1}.get(row.action, 0)
        assert net[row.sample_id] in {0, 1}
    assert {one.id for one in samples if one.state is SampleState.LEARNED} == {id for id in net if net[id]}
    promoted = [one for one in versions if one.state is not VersionState.REFUSED]
    assert [one.state for one in promoted] == [VersionState.LIVE, *([VersionState.RETIRED] * len(promoted))][
        : len(promoted)
    ]


def fits(sample: Sample, move: str) -> bool:
    """Whether the contract allows the move from this state."""
    allowed = {
        "learned": {SampleState.QUEUED},
        "unlearned": {SampleState.LEARNED},
        "replaced": {SampleState.LEARNED},
        "dropped": {SampleState.QUEUED},
        "quarantined": {SampleState.QUEUED, SampleState.LEARNED},
        "trained": set(SampleState),
        "restored": {sample.state} if sample.may_return else set(),
        "requeued": {SampleState.LEARNED},
        "reweighted": {SampleState.LEARNED},
    }
    return sample.state in allowed[move]


def test_any_sequence_of_calls_keeps_the_invariants() -> None:
    run_state_machine_as_test(
        AnySequence,
        settings=settings(
            max_examples=15,
            stateful_step_count=10,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
