"""Rolling back goes forward: an older (or refused) version's artefacts become a new version.

Numbers only grow, so nobody who saw version 12 is ever answered by version 7: they are answered by 13, which has 7's
files and a reason. What becomes of the samples is worked out in `pawl/versions/effects.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from pawl.classifier.head import LinearHead
from pawl.domain.errors import (
    AlreadyLive,
    ArtefactsGone,
    Conflict,
    ParentNotLive,
    StoreUnavailable,
)
from pawl.domain.gate_reports import GateReport
from pawl.domain.labels import LabelChange, is_whole, present_names
from pawl.domain.manifest import MANIFEST_FILE, Manifest, head_file, novelty_file
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.versions import HeadInfo, NewVersion, Version, VersionKind, VersionState
from pawl.json_values import Json
from pawl.ports import ArtefactStore, FeedbackStream, LabelStore, SampleStore, VersionFolder, VersionLedger
from pawl.versions.effects import Effect, content_of, effect_of

PENDING_EVENT = "unlearn_pending"
_TRIES = 5
_IDS_KEPT = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """What a promotion by hand reads and writes."""

    ledger: VersionLedger
    labels: LabelStore
    samples: SampleStore
    artefacts: ArtefactStore
    stream: FeedbackStream


@dataclass(frozen=True, slots=True)
class Promoted:
    """The new version, and what making it live did to the samples."""

    version: Version
    effect: Effect


@dataclass(frozen=True, slots=True)
class Preview:
    """What a promotion would do now, in place of the live version."""

    kind: str
    live: Version | None
    effect: Effect


async def preview(number: int, stores: Stores) -> Preview:
    """What promoting version `number` would do. Nothing changes; raises as that would, unless its files are damaged."""
    plan = await _planned(number, "", QuarantineKind.ROLLBACK, stores)
    return Preview(plan.trigger, plan.live, plan.effect)


async def promote_again(
    number: int, *, reason: str, promoted_by: str, stores: Stores, kind: QuarantineKind = QuarantineKind.ROLLBACK
) -> Promoted:
    """Makes the artefacts of version `number` live as a new version, past the gate; the reason is kept with it.

    What that does to the samples is in `effects.py` beside this file; of a roll-back, `kind` is what quarantined
    them. Samples that are in the head but were taken out for good since are in the gate report as `pending_unlearn`,
    and the learner's next head update, which follows the ledger, takes them out. What was decided about labels since
    then stands: the heads get the names of now, and no retired label.

    Raises `VersionNotFound`, `AlreadyLive`, `ArtefactsGone`, `ArtefactCorrupt`, and `Conflict` (mostly
    `ParentNotLive`) when the learner promoted new versions during every one of five tries.
    """
    for attempt in range(1, _TRIES + 1):
        plan = await _planned(number, promoted_by, kind, stores)
        try:
            folder = await asyncio.to_thread(plan.link, stores.artefacts)
        except FileExistsError:
            continue  # a candidate that the learner is about to promote: its number is left alone
        try:
            candidate = plan.candidate(folder, reason, promoted_by)
            version = await stores.ledger.promote(candidate, plan.effect.change)
        except ParentNotLive:
            await asyncio.to_thread(stores.artefacts.remove, [folder.number])
            if attempt == _TRIES:
                raise
            continue
        await _tell(version, plan, stores)
        return Promoted(version, plan.effect)
    raise Conflict(problem=f"the learner wrote new versions during every one of {_TRIES} tries.")


async def _planned(number: int, promoted_by: str, kind: QuarantineKind, stores: Stores) -> _Plan:
    target = await stores.ledger.get(number)
    live = await stores.ledger.live()
    if live is not None and live.number == number:
        raise AlreadyLive(number=number)
    kept = await asyncio.to_thread(stores.artefacts.kept)
    if not target.artefacts_kept or number not in kept:
        raise ArtefactsGone(number=number)
    new_number = max(await stores.ledger.next_number(), max(kept) + 1)
    changes = await stores.labels.applied(content_of(target))
    names = {
        task: {name for name in present_names(labels, [one for one in changes if one.task == task]) if name is not None}
        for task, labels in target.labels.items()
    }
    why = f"roll-back to version {number} by {new_number} ({promoted_by})"
    if target.state is VersionState.REFUSED:
        why = f"learned again on top of version {number}, which was forced as {new_number} ({promoted_by})"
    effect = await effect_of(target, live, names, why, kind, stores.ledger, stores.samples)
    return _Plan(new_number, target, live, effect, changes)


@dataclass(frozen=True, slots=True)
class _Plan:
    number: int
    target: Version
    live: Version | None
    effect: Effect
    changes: Sequence[LabelChange]
    """Of labels, since the target was made."""

    @property
    def trigger(self) -> str:
        """What the new version says it came of."""
        return "forced" if self.target.state is VersionState.REFUSED else "rollback"

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

    def candidate(self, folder: VersionFolder, reason: str, promoted_by: str) -> NewVersion:
        target = self.target
        report = GateReport(accepted=True, reasons=(), tasks={}, forced=reason)
        return NewVersion(
            number=self.number,
            parent=folder.manifest.parent,
            kind=VersionKind.ROLLBACK,
            trigger=self.trigger,
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
        out = self.effect.stays_out
        pending = {"pending_unlearn": list(out[:_IDS_KEPT]), "pending_unlearn_count": len(out)}
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


async def _tell(version: Version, plan: _Plan, stores: Stores) -> None:
    """Best effort: the version is live, whatever fails here."""
    log.warning("version_promoted_by_hand", version=version.number, target=plan.target.number)
    try:
        await stores.stream.hint_version(version.number)
    except ConnectionError:
        log.warning("version_hint_failed", version=version.number)
    if plan.effect.stays_out:
        try:
            await stores.ledger.append_event(PENDING_EVENT, {"version": version.number, **plan.pending()})
        except StoreUnavailable as error:
            log.warning("event_not_written", type=PENDING_EVENT, problem=str(error))
