"""`backends.json` of a home: which backends are proven for an encoder, and which one was faster on which machine."""

from __future__ import annotations

import fcntl
import json
import platform
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from pawl.classifier.encoders.choice.comparison import Comparison
from pawl.classifier.encoders.choice.proof import Proof
from pawl.files import write_atomic
from pawl.installed import installed_version
from pawl.processes.processor import processor_field
from pawl.processes.threads import thread_count

log = structlog.get_logger("backends")
_KEPT = 200  # newest proofs and choices: each consolidation makes an encoder that has proofs of its own

Measured = TypeVar("Measured", Proof, Comparison)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[Measured]):
    """A proof or a comparison, with its machine and its time."""

    result: Measured
    machine: str
    at: datetime

    @property
    def age_days(self) -> float:
        """Days since then."""
        return (datetime.now(UTC) - self.at).total_seconds() / 86_400


@dataclass(slots=True)
class BackendRecord:
    """Proofs and choices by their keys (`Backends.proof_key`)."""

    proofs: dict[str, Recorded[Proof]] = field(default_factory=dict)
    choices: dict[str, Recorded[Comparison]] = field(default_factory=dict)

    @staticmethod
    def read(path: Path | None) -> BackendRecord:
        """Reads the file; empty where it is missing or odd, which only costs another proof and measurement."""
        record = BackendRecord()
        if path is None:
            return record
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            proofs = {key: _read_entry(Proof, entry) for key, entry in kept["proofs"].items()}
            choices = {key: _read_entry(Comparison, entry) for key, entry in kept["choices"].items()}
            return BackendRecord(proofs, choices)
        return record

    def write(self, path: Path) -> None:
        """Writes the file. A folder that cannot be written only costs a proof and a measurement at each start."""
        kept = {"proofs": _newest(self.proofs), "choices": _newest(self.choices)}
        try:
            write_atomic(path, json.dumps(kept, indent=2) + "\n")
        except OSError as error:
            log.warning("backends_not_kept", path=str(path), problem=str(error))


_IN_MEMORY, _IN_MEMORY_LOCK = BackendRecord(), threading.Lock()


@contextmanager
def changing(path: Path | None) -> Iterator[BackendRecord]:
    """Opens the record for one process at a time; writes it when the block ends without an error.

    App and learner start together. The second waits for the first and takes its result: measured at the same time, both
    results would be wrong, and the two might choose differently.
    """
    if path is None:
        with _IN_MEMORY_LOCK:
            yield _IN_MEMORY
        return
    with _lock(path):
        record = BackendRecord.read(path)
        before = (dict(record.proofs), dict(record.choices))
        yield record
        # Only if changed: most starts find all they need and have nothing to write.
        if before != (record.proofs, record.choices):
            record.write(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file beside it: the record is replaced by a rename, and a lock on what was renamed away would hold nobody.
        lock = path.with_suffix(".lock").open("a")
    except OSError as error:  # a folder for reading only: then each process finds out for itself
        log.warning("backends_not_kept", path=str(path), problem=str(error))
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def machine(threads: int) -> str:
    """What speed depends on besides the libraries and the encoder: processor, its kind, and batches at a time."""
    processor = processor_field("model name") or platform.processor() or "?"
    return f"{processor}, {platform.machine()}, {thread_count(threads)} threads"


def with_versions(names: Sequence[str]) -> list[str]:
    """Returns each library with its version."""
    return [f"{name} {installed_version(name) or '?'}" for name in names]


def recorded_now(result: Measured, where: str) -> Recorded[Measured]:
    """Returns a result with the machine it is of and the present time."""
    return Recorded(result, where, datetime.now(UTC))


def _read_entry(kind: type[Measured], entry: dict[str, Any]) -> Recorded[Measured]:
    at = datetime.fromisoformat(entry["at"])
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    result = kind(**entry["result"])
    if isinstance(result, Comparison) and result.chosen not in result.rates:
        raise ValueError("a choice that was not measured")
    return Recorded(result, str(entry["machine"]), at)


def _newest(entries: dict[str, Recorded[Measured]]) -> dict[str, Any]:
    kept = sorted(entries.items(), key=lambda item: item[1].at)[-_KEPT:]
    return {
        key: {"result": asdict(entry.result), "machine": entry.machine, "at": entry.at.isoformat(timespec="seconds")}
        for key, entry in kept
    }
