"""Rolling back goes forward: an older (or refused) version's artefacts become a new version.

Numbers only grow, so nobody who saw version 12 is ever answered by version 7: they are answered by 13, which has 7's
files and a reason. What the versions between had learned moves to `quarantined`; released, it is learned again. A
label that one of these had replaced is queued again, so that its text does not end without any.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from app.core.classifier.head import LinearHead
from app.core.domain.errors import (
    AlreadyLive,
    ArtefactsGone,
    Conflict,
    ParentNotLive,
    StoreUnavailable,
)
from app.core.domain.gate_reports import GateReport
from app.core.domain.labels import LabelChange, is_whole, present_names
from app.core.domain.manifest import MANIFEST_FILE, Manifest, head_file, novelty_file
from app.core.domain.quarantine import QuarantineKind
from app.core.domain.versions import (
    HeadInfo,
    Json,
    LedgerAction,
    LedgerChange,
    LedgerRow,
    NewVersion,
    Version,
    VersionKind,
    VersionState,
)
from app.core.ports import ArtefactStore, FeedbackStream, LabelStore, VersionFolder, VersionLedger

PENDING_EVENT = "unlearn_pending"
_TRIES = 5
_IDS_KEPT = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """How the samples in a target version differ from those in the live one, by the ledger."""

    gone: tuple[str, ...]
    """Learned since, so not in the target's head."""
    back: tuple[str, ...]
    """Taken out since, so in the target's head again: retracted labels that come back until the next head update."""


def compare(rows: Sequence[LedgerRow]) -> Difference:
    """The difference that the rows between target and live version make, in the order they were written."""
    first: dict[str, LedgerAction] = {}
    last: dict[str, LedgerAction] = {}
    for row in rows:
        if row.action is not LedgerAction.ENCODER:
            first.setdefault(row.sample_id, row.action)
            last[row.sample_id] = row.action
    ends = {(LedgerAction.LEARN, LedgerAction.LEARN): "gone", (LedgerAction.UNLEARN, LedgerAction.UNLEARN): "back"}
    sides = {sample_id: ends.get((first[sample_id], last[sample_id])) for sample_id in last}
    return Difference(
        gone=tuple(sample_id for sample_id, side in sides.items() if side == "gone"),
        back=tuple(sample_id for sample_id, side in sides.items() if side == "back"),
    )


async def promote_again(
    number: int,
    *,
    reason: str,
    promoted_by: str,
    ledger: VersionLedger,
    labels: LabelStore,
    artefacts: ArtefactStore,
    stream: FeedbackStream,
    kind: QuarantineKind = QuarantineKind.ROLLBACK,
) -> Version:
    """Makes the artefacts of version `number` live as a new version, past the gate; the reason is kept with it.

    Samples that a client retracted after `number` was made are in its head again; their ids are in the gate report
    as `pending_unlearn`, and the learner's next head update, which follows the ledger, takes them out. What was learned
    since then goes into quarantine as `kind`. What was decided about labels since then stands: the heads get the names
    of now, and no retired label.

    Raises `VersionNotFound`, `AlreadyLive`, `ArtefactsGone`, `ArtefactCorrupt`, and `Conflict` (mostly
    `ParentNotLive`) when the learner promoted new versions during every one of five tries.
    """
    for attempt in range(1, _TRIES + 1):
        target = await ledger.get(number)
        live = await ledger.live()
        if live is not None and live.number == number:
            raise AlreadyLive(number=number)
        kept = await asyncio.to_thread(artefacts.kept)
        if not target.artefacts_kept or number not in kept:
            raise ArtefactsGone(number=number)
        new_number = max(await ledger.next_number(), max(kept) + 1)
        rows = await ledger.ledger(_content_of(target), live.number if live is not None else None)
        difference = compare(rows) if live is not None else Difference((), ())
        plan = _Plan(new_number, target, live, difference, await labels.applied(_content_of(target)))
        try:
            folder = await asyncio.to_thread(plan.link, artefacts)
        except FileExistsError:
            continue  # a candidate that the learner is about to promote: its number is left alone
        try:
            version = await ledger.promote(plan.candidate(folder, reason, promoted_by), plan.change(promoted_by, kind))
        except ParentNotLive:
            await asyncio.to_thread(artefacts.remove, [folder.number])
            if attempt == _TRIES:
                raise
            continue
        await _tell(version, plan, ledger, stream)
        return version
    raise Conflict(problem=f"the learner wrote new versions during every one of {_TRIES} tries.")


@dataclass(frozen=True, slots=True)
class _Plan:
    number: int
    target: Version
    live: Version | None
    difference: Difference
    changes: Sequence[LabelChange]
    """Of labels, since the target was made."""

    def link(self, artefacts: ArtefactStore) -> VersionFolder:
        """Verifies the target's files in full and links them under the new number."""
        source = artefacts.open(self.target.number)
        manifest = replace(
            source.manifest,
            version=self.number,
            parent=self.live.number if self.live is not None else None,
            kind=VersionKind.ROLLBACK,
        )
        if self.concerned:
            return _publish_relabelled(self.number, source, manifest, self.changes, artefacts)
        return artefacts.link(self.number, self.target.number, manifest, exclusive=True)

    def change(self, promoted_by: str, kind: QuarantineKind) -> LedgerChange:
        why = f"roll-back to version {self.target.number} by {self.number} ({promoted_by})"
        gone = self.difference.gone
        quarantined, kinds = dict.fromkeys(gone, why), dict.fromkeys(gone, kind)
        return LedgerChange(quarantined=quarantined, kinds=kinds, back_to=_content_of(self.target))

    def candidate(self, folder: VersionFolder, reason: str, promoted_by: str) -> NewVersion:
        target = self.target
        report = GateReport(accepted=True, reasons=(), tasks={}, forced=reason)
        return NewVersion(
            number=self.number,
            parent=folder.manifest.parent,
            kind=VersionKind.ROLLBACK,
            trigger="forced" if target.state is VersionState.REFUSED else "rollback",
            encoder_digest=target.encoder_digest,
            heads=dict(folder.manifest.heads),
            manifest_digest=hashlib.sha256((folder.path / MANIFEST_FILE).read_bytes()).hexdigest(),
            size_bytes=target.size_bytes,
            watermark=target.watermark,
            metrics=target.metrics,
            gate={**report.to_json(), "target": target.number, **self.pending()},
            promoted_by=promoted_by,
            reason=reason,
        )

    def pending(self) -> Json:
        back = self.difference.back
        pending = {"pending_unlearn": list(back[:_IDS_KEPT]), "pending_unlearn_count": len(back)}
        return pending | ({"pending_label_changes": self.concerned} if self.concerned else {})

    @property
    def concerned(self) -> list[str]:
        """Ids of the changes of labels that the target has."""
        names = dict(self.target.labels)
        found = []
        for change in self.changes:
            before = names.get(change.task, ())
            if change.label in before or (before and is_whole(change)):
                found.append(change.id)
                names[change.task] = tuple(name for name in present_names(before, [change]) if name is not None)
        return found


def _publish_relabelled(
    number: int, source: VersionFolder, manifest: Manifest, changes: Sequence[LabelChange], artefacts: ArtefactStore
) -> VersionFolder:
    """The target's files, but its heads with the labels of now: a retired label is not answered again, not even until
    the learner has made the heads that it would have fitted.
    """
    files: dict[str, Path | bytes] = {path: source.path / path for path in source.manifest.files}
    heads: dict[str, HeadInfo] = {}
    tau = float(source.manifest.settings.get("prior_correction", 0.0))
    for task, info in source.manifest.heads.items():
        head = LinearHead.from_file(source.path / head_file(task), info.labels, info.temperature)
        names = present_names(info.labels, [change for change in changes if change.task == task])
        present = head.relabelled(names, tau)
        if present is None:
            del files[head_file(task)]
            files.pop(novelty_file(task), None)
            continue
        content = files[head_file(task)] = present.to_bytes()
        heads[task] = HeadInfo(hashlib.sha256(content).hexdigest(), present.labels, info.temperature)
    if not heads:
        raise Conflict(problem=f"every label of version {source.number} was retired or dropped since.")
    return artefacts.publish(number, replace(manifest, heads=heads), files, exclusive=True)


def _content_of(target: Version) -> int:
    """The version whose ledger says what the target's head has learned, as far as the ledger knows it."""
    if target.state is VersionState.REFUSED:
        return target.parent or 0  # a refused batch never entered the ledger
    return target.number


async def _tell(version: Version, plan: _Plan, ledger: VersionLedger, stream: FeedbackStream) -> None:
    """Best effort: the version is live, whatever fails here."""
    log.warning("version_promoted_by_hand", version=version.number, target=plan.target.number)
    try:
        await stream.hint_version(version.number)
    except ConnectionError:
        log.warning("version_hint_failed", version=version.number)
    if plan.difference.back:
        try:
            await ledger.append_event(PENDING_EVENT, {"version": version.number, **plan.pending()})
        except StoreUnavailable as error:
            log.warning("event_not_written", type=PENDING_EVENT, problem=str(error))
