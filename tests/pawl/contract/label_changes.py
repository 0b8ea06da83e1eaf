"""Asking for changes of labels, and carrying them out as the learner does."""

from __future__ import annotations

from typing import Any

from pawl.domain.labels import LabelChange, LabelChangeKind, LabelRequest
from pawl.domain.samples import NewSample
from pawl.domain.versions import LedgerChange
from tests.pawl.contract.backends import OpenStores, candidate


async def ask(stores: OpenStores, kind: str, label: str, target: str | None = None, **more: Any) -> LabelChange:
    request = LabelRequest(LabelChangeKind(kind), more.pop("task", "default"), label, target, **more)
    return await stores.labels.request(request)


async def carry_out(stores: OpenStores, change: LabelChange) -> int:
    """As the learner does: one promotion; returns its number."""
    number, live = await stores.ledger.next_number(), await stores.ledger.live()
    unlearned = {}
    if change.kind is LabelChangeKind.RETIRE:
        gone = await stores.samples.learned_with_label(change.task, change.label, 100)
        unlearned = {sample.id: "retired" for sample in gone}
    if change.kind is LabelChangeKind.DROP:
        learned = await stores.samples.learned(change.task)
        unlearned = {one.id: "dropped" for one in learned if change.target in {None, one.source}}
    new = candidate(number, live.number if live else None)
    await stores.ledger.promote(new, LedgerChange(unlearned=unlearned, label=change))
    return number


async def three_labels(stores: OpenStores) -> int:
    """a, b and c, two learned samples each; returns the version."""
    items = [NewSample(f"{label} {n}", label) for label in "abc" for n in range(2)]
    return await stores.learn(*await stores.samples.accept(items))


async def labels_of(stores: OpenStores) -> dict[str, tuple[str, str | None]]:
    return {one.name: (one.state.value, one.now) for one in await stores.labels.summaries("default")}
