"""What `pawl import --dry-run` prints: what would be stored, and which encoder reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from app.commands.console.terminal import print_json, print_line
from app.commands.data.reading import Measured
from pawl.domain.samples import NewSample

_SHOWN_LABELS = 20


def tell_plan(name: str, items: Sequence[NewSample], bad: int, measured: Measured, *, as_json: bool) -> None:
    """Prints it. `bad` rows would be left out."""
    labels: dict[str, Counter[str]] = {}
    for item in items:
        labels.setdefault(item.task, Counter())[item.label] += 1
    if as_json:
        tasks = {task: dict(counts.most_common()) for task, counts in labels.items()}
        plan = {"file": name, "dry_run": True, "texts": len(items), "bad": bad, "tasks": tasks}
        print_json(plan | measured.as_json())
        return
    print_line(f"{name}: {len(items)} texts would be imported" + (f", {bad} rows left out" if bad else ""))
    for task, counts in labels.items():
        shown = ", ".join(f"{label} {count}" for label, count in counts.most_common(_SHOWN_LABELS))
        more = ", ..." if len(counts) > _SHOWN_LABELS else ""
        print_line(f"task {task}: {counts.total()} texts, {len(counts)} labels ({shown}{more})")
    print_line("writing: " + ", ".join(f"{share:.0%} {script}" for script, share in measured.scripts.shares.items()))
    for sentence in measured.sentences:
        print_line(sentence)
    print_line("nothing was imported")
