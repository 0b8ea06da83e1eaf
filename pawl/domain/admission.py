"""Decides which items may become samples, and warns about labels that are probably mistakes.

The store reads the facts of the tasks and calls `admit` in the transaction that stores the items, so that every
entrance has the same rules. All faults of all items are found at once: a client mends all of them or none.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pawl.domain.errors import ItemsRefused, LabelRetired, TaskLeaving, UnknownLabel
from pawl.domain.forms import Fault, cleaned, likeness, no_such_task
from pawl.domain.labels import LabelRecord, LabelState, resolve
from pawl.domain.samples import DEFAULT_TASK, NewSample


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is known of a task when samples for it arrive.

    labels   those with active samples.
    records  what operators decided about names.
    head     labels of the live version's head; None where it has none.
    leaving  id of a request to drop the task that waits for the learner.
    """

    labels: Collection[str] = ()
    records: Mapping[str, LabelRecord] = field(default_factory=dict)
    head: Collection[str] | None = None
    leaving: str | None = None

    def exists(self, task: str) -> bool:
        """Whether samples may come without `create_task`."""
        return task == DEFAULT_TASK or bool(self.labels or self.records or self.head is not None)


@dataclass(frozen=True, slots=True)
class Admission:
    """Items under their present labels, with what is to be said about each; or the faults."""

    items: list[NewSample] = field(default_factory=list)
    warnings: list[list[str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def check(self) -> None:
        """Raises `ItemsRefused`, whose details hold all `faults`."""
        if self.faults:
            first = self.faults[0]
            raise ItemsRefused(
                count=len({fault.index for fault in self.faults}),
                items=len(self.items),
                index=first.index,
                field=first.field,
                problem=first.problem,
                faults=self.faults,
            )


def clean_all(items: Sequence[NewSample], most_bytes: int | None = None) -> tuple[list[NewSample], list[Fault]]:
    """The items in the form in which they are kept, and what is wrong with the form of each."""
    kept: list[NewSample] = []
    faults: list[Fault] = []
    for index, item in enumerate(items):
        clean, of_item = cleaned(item, index, most_bytes)
        kept.append(clean)
        faults += of_item
    return kept, faults


def admit(
    items: Sequence[NewSample],
    faults: Sequence[Fault],
    facts: Mapping[str, TaskFacts],
    tasks: Collection[str],
    *,
    closed: bool,
) -> Admission:
    """Admits items from `clean_all`, or finds further faults.

    Args:
        items: Cleaned.
        faults: Of their form; such items are not looked at.
        facts: By task.
        tasks: All that exist.
        closed: Whether new labels are refused: they are closed, and there is a version.
    """
    admission = Admission(faults=list(faults))
    bad = {fault.index for fault in faults}
    # Of any item of the call: the order of an import's rows must not decide which of them are refused.
    created = {item.task for item in items if item.create_task}
    alike = {task: _Alike(known) for task, known in facts.items()}
    for index, item in enumerate(items):
        present, warnings = item, []
        known = facts.get(item.task)
        if known is not None and index not in bad:
            problem = _task_problem(item.task, known, created, tasks)
            if problem is not None:
                admission.faults.append(Fault(index, "task", problem))
            else:
                try:
                    present = replace(item, label=_present_label(item, known, closed=closed))
                except (LabelRetired, UnknownLabel) as error:
                    admission.faults.append(Fault(index, "label", str(error)))
                else:
                    warnings = list(alike[item.task].warnings(item.task, present.label))
        admission.items.append(present)
        admission.warnings.append(warnings)
    admission.faults.sort(key=lambda fault: fault.index)
    return admission


def merge_command(task: str, label: str, into: str) -> str:
    """The command that makes two labels one."""
    task_option = [] if task == DEFAULT_TASK else ["--task", task]
    # Else a label such as `-1` is read as an option.
    guard = ["--"] if label.startswith("-") or into.startswith("-") else []
    return shlex.join(["pawl", "labels", "merge", *task_option, *guard, label, into])


def probably_the_same(task: str, samples: Mapping[str, int]) -> list[dict[str, str]]:
    """Labels (with their number of samples) that are alike, two by two: the one with fewer samples, the other, and the
    command that makes them one.
    """
    groups: dict[str, list[str]] = {}
    for label in sorted(samples, key=lambda label: (-samples[label], label)):
        groups.setdefault(likeness(label), []).append(label)
    return [
        {"label": label, "into": group[0], "command": merge_command(task, label, group[0])}
        for group in groups.values()
        for label in group[1:]
    ]


def _task_problem(task: str, known: TaskFacts, created: Collection[str], tasks: Collection[str]) -> str | None:
    if known.leaving is not None:
        return str(TaskLeaving(task=task, change=known.leaving))
    if not known.exists(task) and task not in created:
        return str(no_such_task(task, tasks))
    return None


def _present_label(item: NewSample, known: TaskFacts, *, closed: bool) -> str:
    """Resolves the label of an item. Raises `LabelRetired` and, where labels are closed, `UnknownLabel`."""
    label = resolve(known.records, item.task, item.label)
    if closed and label not in (known.head or ()) and label not in known.records:
        raise UnknownLabel(label=item.label, task=item.task, known=sorted(known.head or ()))
    return label


class _Alike:
    """The names of a task, grouped by likeness; names that come with the call are added."""

    def __init__(self, known: TaskFacts) -> None:
        self._by_likeness: dict[str, dict[str, None]] = {}
        self._records = known.records
        for name in sorted({*known.labels, *(known.head or ()), *known.records}):
            self._by_likeness.setdefault(likeness(name), {})[name] = None

    def warnings(self, task: str, label: str) -> Iterator[str]:
        """Yields a warning for each known name that is like a label, and adds the label."""
        same = self._by_likeness.setdefault(likeness(label), {})
        for other in same:
            if other != label:
                yield self._warning(task, label, other)
        # Added, so that two new labels of one call are told of each other.
        same[label] = None

    def _warning(self, task: str, label: str, other: str) -> str:
        record = self._records.get(other)
        if record is None or record.state is LabelState.ACTIVE:
            known = f"the label {label!r} is probably the same as {other!r}"
            return f"{known}; to make them one: {merge_command(task, label, other)}"
        return f"the label {label!r} is probably the same as {other!r}, which was {record.state.value}"
