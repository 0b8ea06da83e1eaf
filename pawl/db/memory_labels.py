"""The in-memory twin of the SQL label store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pawl.clock import Clock, SystemClock
from pawl.db.label_rules import (
    accepted_change,
    check_pending,
    in_form,
    leaving_states,
    present_records,
    request_events,
    settlement_event,
    stale_learned,
    summarise,
)
from pawl.db.memory import MemoryDatabase
from pawl.domain.errors import LabelChangeNotFound
from pawl.domain.labels import (
    LabelChange,
    LabelChangeKind,
    LabelChangeState,
    LabelFacts,
    LabelRecord,
    LabelRequest,
    LabelSummary,
    TaskSummary,
)
from pawl.domain.samples import ACTIVE_STATES, Sample, SampleState
from pawl.domain.versions import VersionState


class MemoryLabelStore:
    """`LabelStore` in memory."""

    def __init__(self, database: MemoryDatabase, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    async def request(self, request: LabelRequest) -> LabelChange:
        """See `LabelStore.request`."""
        database, now, request = self._database, self._clock.now(), in_form(request)
        source = request.target if request.kind is LabelChangeKind.DROP else None
        waiting = await self.pending()
        counts = _counts(database, request.task)
        facts = LabelFacts(
            records=await self.records(request.task),
            in_use={label for label, _ in counts},
            learned={label for label, state in counts if state == SampleState.LEARNED.value},
            pending=[one for one in waiting if one.task == request.task],
            tasks=database.known_tasks(),
            has_source=source is not None and bool(_in_task(database, request.task, source)),
        )
        change = accepted_change(request, facts, len(waiting), now)
        database.label_changes[change.id] = change
        if change.kind is LabelChangeKind.ADD:
            change = apply_label_change(database, change, None, now)
        for type, payload in request_events(change):
            database.add_event(type, payload, now)
        return change

    async def get(self, change_id: str) -> LabelChange:
        """See `LabelStore.get`."""
        try:
            return self._database.label_changes[change_id]
        except KeyError:
            raise LabelChangeNotFound(change_id=change_id) from None

    async def pending(self) -> list[LabelChange]:
        """See `LabelStore.pending`."""
        return [one for one in self._database.label_changes.values() if one.state is LabelChangeState.PENDING]

    async def applied(self, after_version: int, up_to_version: int | None = None) -> list[LabelChange]:
        """See `LabelStore.applied`."""
        known = [(one.version, one) for one in self._database.label_changes.values() if one.version is not None]
        last = up_to_version if up_to_version is not None else max((number for number, _ in known), default=0)
        within = [(number, one) for number, one in known if after_version < number <= last]
        return [one for _, one in sorted(within, key=lambda pair: pair[0])]

    async def apply(self, change_id: str) -> LabelChange:
        """See `LabelStore.apply`."""
        change, now = await self.get(change_id), self._clock.now()
        if any(one.state is SampleState.LEARNED for one in _concerned(self._database, change)):
            raise stale_learned(change)
        change = apply_label_change(self._database, change, None, now)
        self._database.add_event(*settlement_event(change), now)
        return change

    async def fail(self, change_id: str, problem: str) -> LabelChange:
        """See `LabelStore.fail`."""
        change, now = await self.get(change_id), self._clock.now()
        check_pending(change)
        change = replace(change, state=LabelChangeState.FAILED, problem=problem, settled_at=now)
        self._database.label_changes[change_id] = change
        self._database.add_event(*settlement_event(change), now)
        return change

    async def records(self, task: str) -> dict[str, LabelRecord]:
        """See `LabelStore.records`."""
        return {name: record for (of, name), record in self._database.labels.items() if of == task}

    async def tasks(self, source: str | None = None) -> list[TaskSummary]:
        """See `LabelStore.tasks`."""
        database = self._database
        live = next((one for one in database.versions.values() if one.state is VersionState.LIVE), None)
        pending = {one.task: one.id for one in await self.pending() if one.kind is LabelChangeKind.DROP}
        found = []
        for name in database.known_tasks():
            own = _in_task(database, name, source)
            if own or source is None:
                counts = Counter(one.state for one in own)
                states = {state.value: counts[state] for state in ACTIVE_STATES}
                served = live is not None and name in live.heads
                found.append(TaskSummary(name, len({one.label for one in own}), states, served, pending.get(name)))
        return found

    async def summaries(self, task: str) -> list[LabelSummary]:
        """See `LabelStore.summaries`."""
        since: dict[str, int] = {}
        for one in self._database.samples.values():
            if one.task == task and one.state is SampleState.LEARNED and one.learned_in_version is not None:
                since.setdefault(one.label, one.learned_in_version)
        pending = [change for change in await self.pending() if change.task == task]
        return summarise(await self.records(task), _counts(self._database, task), since, pending)


def check_label_change(database: MemoryDatabase, change: LabelChange, leaving: Sequence[str]) -> None:
    """Raises `CandidateStale` where `apply_label_change` would, before anything is written."""
    check_pending(database.label_changes[change.id])
    learned = {one.id for one in _concerned(database, change) if one.state is SampleState.LEARNED}
    if change.kind in {LabelChangeKind.RETIRE, LabelChangeKind.DROP} and learned - set(leaving):
        raise stale_learned(change)


def apply_label_change(
    database: MemoryDatabase, change: LabelChange, version: int | None, now: datetime
) -> LabelChange:
    """Carries out a pending change: samples, decisions, and the change itself."""
    check_label_change(database, change, ())
    if change.kind in {LabelChangeKind.RETIRE, LabelChangeKind.DROP}:
        after = leaving_states(change)
        for sample in _concerned(database, change):
            state, reason = after[sample.state]
            database.move(sample.id, state, reason, now)
        if change.kind is LabelChangeKind.DROP and not _in_task(database, change.task, None):
            for key in [key for key in database.labels if key[0] == change.task]:
                del database.labels[key]
    elif change.target is not None:
        _relabel(database, change.task, change.label, change.target)
    own = {name: record for (task, name), record in database.labels.items() if task == change.task}
    for record in present_records(own, change, version, now):
        database.labels[record.task, record.name] = record
    settled = replace(change, state=LabelChangeState.APPLIED, version=version, settled_at=now)
    database.label_changes[change.id] = settled
    return settled


def _relabel(database: MemoryDatabase, task: str, old: str, new: str) -> None:
    newest: dict[str, str] = {}
    for sample in _of(database, task, [old, new]):
        if sample.id in database.superseded:
            continue
        older = newest.get(sample.text_digest)
        if older is not None:
            database.superseded.add(older)
        newest[sample.text_digest] = sample.id
    for sample in _of(database, task, [old]):
        database.samples[sample.id] = replace(sample, label=new)


def _concerned(database: MemoryDatabase, change: LabelChange) -> list[Sample]:
    """Active samples of the label, or of the task, that is to change."""
    if change.kind is LabelChangeKind.DROP:
        dead = [one for one in database.samples.values() if one.task == change.task and one.state is SampleState.DEAD]
        dead = [one for one in dead if change.target in {None, one.source}]
        return [*_in_task(database, change.task, change.target), *dead]
    return _of(database, change.task, [change.label])


def _in_task(database: MemoryDatabase, task: str, source: str | None) -> list[Sample]:
    """Active samples of a task, of any source or of one."""
    active = (one for one in database.samples.values() if one.task == task and one.state in ACTIVE_STATES)
    return [one for one in active if source is None or one.source == source]


def _of(database: MemoryDatabase, task: str, names: Sequence[str]) -> list[Sample]:
    """Active samples of these labels, by `seq`."""
    return [
        one
        for one in database.samples.values()
        if one.task == task and one.label in names and one.state in ACTIVE_STATES
    ]


def _counts(database: MemoryDatabase, task: str) -> Counter[tuple[str, str]]:
    active = (one for one in database.samples.values() if one.task == task and one.state in ACTIVE_STATES)
    return Counter((one.label, one.state.value) for one in active)
