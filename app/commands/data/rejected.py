"""Rows of a file that cannot be used: named by their lines, and kept in a file of their own where they are left out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app.commands.console.terminal import CommandFailed, notes
from app.commands.data.files.formats import STANDARD_INPUT
from app.commands.data.files.rows import BadRow
from pawl.files import write_atomic

_SHOWN = 20


def stop_or_write(bad: Sequence[BadRow], good: int, path: Path, *, skip: bool, most: float) -> Path | None:
    """Names the bad rows. Raises `CommandFailed` unless they may be skipped; returns the file that holds them then.

    `most` is the highest percentage of bad rows: a file with more was probably chosen or read wrongly.
    """
    count = sum(row.lines for row in bad)
    for row in bad[:_SHOWN]:
        notes.print(f"line {row.line}: {row.problem}", markup=False, soft_wrap=True)
    if len(bad) > _SHOWN:
        notes.print(f"... and {len(bad) - _SHOWN} more")
    if bad and not skip:
        raise CommandFailed(
            f"{count} of {count + good} rows in {path} are not usable; nothing was imported",
            "Correct them, or leave them out with --skip-bad.",
        )
    share = 100 * count / max(count + good, 1)
    if share > most:
        raise CommandFailed(
            f"{count} of {count + good} rows in {path} are not usable ({share:.1f} %); nothing was imported",
            f"--skip-bad leaves out at most {most:g} %; more with --max-bad PERCENT.",
        )
    if not good:
        raise CommandFailed(f"{path} holds no usable rows")
    if not bad:
        return None
    written = _write(bad, path)
    notes.print(f"skipped {count} rows; they are in {written}", style="yellow", markup=False, soft_wrap=True)
    return written


def _write(bad: Sequence[BadRow], path: Path) -> Path:
    """Writes the rows beside the file or, where that cannot be done, into a new temporary folder."""
    name = f"{'standard-input' if path == STANDARD_INPUT else path.name}.rejected.jsonl"
    content = "".join(json.dumps({"line": b.line, "problem": b.problem, "row": b.raw}, default=str) + "\n" for b in bad)
    try:
        return _written(path.parent / name, content)
    except OSError:  # a folder that may be read only
        pass
    try:
        return _written(Path(tempfile.mkdtemp(prefix="pawl-")) / name, content)
    except OSError as error:
        raise CommandFailed("the skipped rows cannot be written anywhere; nothing was imported") from error


def _written(target: Path, content: str) -> Path:
    write_atomic(target, content, durable=False)
    return target
