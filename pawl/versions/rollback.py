"""Makes the artefacts of an older or a refused version live again, under a new number.

Numbers only grow: after a roll-back from version 12 to version 7, clients are answered by version 13, which has the
files of version 7. So a client that asks for version 12 or later still gets an answer. `effects.py` works out what
happens to the samples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from pawl.classifier.served_heads import ServedHeads
from pawl.domain.errors import (
    AlreadyLive,
    ArtefactsGone,
    Conflict,
    ParentNotLive,
    StoreUnavailable,
)
from pawl.domain.gate_reports import GateReport
from pawl.domain.labels import LabelChange, is_whole, present_names
from pawl.domain.manifest import Manifest, head_file, lexical_file, novelty_file
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.versions import HeadInfo, NewVersion, Version, VersionKind, VersionState
from pawl.json_values import Json
from pawl.ports import ArtefactStore, FeedbackStream, LabelStore, SampleStore, VersionFolder, VersionLedger
from pawl.versions.effects import Effect, content_of, effect_of

PENDING_EVENT = "unlearn_pending"
_TRIES = 5
_IDS_KEPT = 1000

log = structlog.get_logger(__name__)


class PromotionPorts(Protocol):
    """The ports that a promotion by hand reads and writes. The service's and the learner's bundles both have them."""

    @property
    def ledger(self) -> VersionLedger: ...  # noqa: D102

    @property
    def labels(self) -> LabelStore: ...  # noqa: D102

    @property
    def samples(self) -> SampleStore: ...  # noqa: D102

    @property
    def artefacts(self) -> ArtefactStore: ...  # noqa: D102

    @property
    def stream(self) -> FeedbackStream: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Promoted:
    """The new version, and what its promotion did to the samples."""

    version: Version
    effect: Effect


@dataclass(frozen=True, slots=True)
class Preview:
    """What a promotion would do now. `kind` is `rollback` or `forced`; `live` is the version it would replace."""

    kind: str
    live: Version | None
    effect: Effect


async def preview(number: int, ports: PromotionPorts) -> Preview:
    """Works out what promoting version `number` would do, and changes nothing.

    Raises what `promote_again` raises, but for damaged files, which are not read here.
    """
    plan = await _planned(number, "", QuarantineKind.ROLLBACK, ports)
    return Preview(plan.trigger, plan.live, plan.effect)


async def promote_again(
    number: int, *, reason: str, promoted_by: str, ports: PromotionPorts, kind: QuarantineKind = QuarantineKind.ROLLBACK
) -> Promoted:
    """Makes the artefacts of version `number` live as a new version. The gate is not asked.

    Samples that are in the head but were taken out for good since are named in the gate report as `pending_unlearn`;
    the learner's next head update takes them out. Decisions about labels since then stay: the heads get the present
    names, and retired labels are left out.

    Args:
        number: The version to make live.
        reason: Why; stored with the new version.
        promoted_by: Who asked for it.
        ports: Stores, artefacts and stream.
        kind: What the quarantine says of samples that a roll-back puts there.

    Raises:
        VersionNotFound: There is no version `number`.
        AlreadyLive: It is the live one.
        ArtefactsGone: Retention removed its files.
        ArtefactCorrupt: Its files are damaged.
        Conflict: The learner promoted new versions during every one of five tries (mostly as `ParentNotLive`).
    """
    for attempt in range(1, _TRIES + 1):
        plan = await _planned(number, promoted_by, kind, ports)
        try:
            # In a thread: it hashes every file of the target, 180 MB and more, which would stand in the event loop's
            # way.
            folder = await asyncio.to_thread(plan.link, ports.artefacts)
        except FileExistsError:
            continue  # the learner has written a candidate under this number and is about to promote it
        try:
            candidate = plan.candidate(folder, reason, promoted_by)
            version = await ports.ledger.promote(candidate, plan.effect.change)
        # Also `CandidateStale`. The effect was worked out against a version that is live no longer: all is planned
        # anew.
        except ParentNotLive:
            await asyncio.to_thread(ports.artefacts.remove, [folder.number])
            if attempt == _TRIES:
                raise
            continue
        await _tell(version, plan, ports)
        return Promoted(version, plan.effect)
    raise Conflict(problem=f"the learner wrote new versions during every one of {_TRIES} tries.")


async def _planned(number: int, promoted_by: str, kind: QuarantineKind, ports: PromotionPorts) -> _PromotionPlan:
    target = await ports.ledger.get(number)
    live = await ports.ledger.live()
    if live is not None and live.number == number:
        raise AlreadyLive(number=number)
    kept = await asyncio.to_thread(ports.artefacts.kept)
    if not target.artefacts_kept or number not in kept:
        raise ArtefactsGone(number=number)
    # Folders count as well as rows: a candidate of the learner is on the disk before its row is in SQL.
    new_number = max(await ports.ledger.next_number(), max(kept) + 1)
    changes = await ports.labels.applied(content_of(target))
    names = {
        task: {name for name in present_names(labels, [each for each in changes if each.task == task]) if name}
        for task, labels in target.labels.items()
    }
    why = f"roll-back to version {number} by {new_number} ({promoted_by})"
    if target.state is VersionState.REFUSED:
        why = f"learned again on top of version {number}, which was forced as {new_number} ({promoted_by})"
    effect = await effect_of(target, live, names, why, kind, ports.ledger, ports.samples)
    return _PromotionPlan(new_number, target, live, effect, changes)


@dataclass(frozen=True, slots=True)
class _PromotionPlan:
    number: int
    target: Version
    live: Version | None
    effect: Effect
    changes: Sequence[LabelChange]
    """Those that were applied since the target was made."""

    @property
    def trigger(self) -> str:
        """The `trigger` of the new version."""
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
        if self.missing_changes:
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
            manifest_digest=folder.manifest_digest,
            size_bytes=target.size_bytes,
            watermark=target.watermark,
            metrics=target.metrics,
            gate={**report.to_json(), "target": target.number, **self.pending()},
            promoted_by=promoted_by,
            reason=reason,
        )

    def pending(self) -> Json:
        """What the learner has to do after this version, for its gate report."""
        out = self.effect.stays_out
        pending: Json = {"pending_unlearn": list(out[:_IDS_KEPT]), "pending_unlearn_count": len(out)}
        return pending | ({"pending_label_changes": self.missing_changes} if self.missing_changes else {})

    @property
    def missing_changes(self) -> list[str]:
        """Ids of the changes of labels that concern the target's labels and are not in its heads."""
        names = dict(self.target.labels)
        ids = []
        for change in self.changes:
            before = names.get(change.task, ())
            if change.label in before or (before and is_whole(change)):
                ids.append(change.id)
                names[change.task] = tuple(name for name in present_names(before, [change]) if name is not None)
        return ids


def _publish_relabelled(
    number: int, source: VersionFolder, manifest: Manifest, changes: Sequence[LabelChange], artefacts: ArtefactStore
) -> VersionFolder:
    """Publishes the target's files, its heads under the present labels.

    So a retired label is not answered again, not even in the time until the learner has fitted the heads anew.
    """
    files: dict[str, Path | bytes] = {path: source.path / path for path in source.manifest.files}
    heads: dict[str, HeadInfo] = {}
    tau = float(source.manifest.settings.get("prior_correction", 0.0))
    for task, info in source.manifest.heads.items():
        before = ServedHeads.from_folder(source.path, task, info)
        names = present_names(info.labels, [change for change in changes if change.task == task])
        present = before.relabelled(names, tau)
        for path in (head_file(task), novelty_file(task), lexical_file(task)):
            files.pop(path, None)
        if present is not None:
            heads[task], packed = present.packed(task)
            files |= packed
    if not heads:
        raise Conflict(problem=f"every label of version {source.number} was retired or dropped since.")
    return artefacts.publish(number, replace(manifest, heads=heads), files, exclusive=True)


async def _tell(version: Version, plan: _PromotionPlan, ports: PromotionPorts) -> None:
    """Tells the apps and the event log. The version is live already, so what fails here is only logged."""
    log.warning("version_promoted_by_hand", version=version.number, target=plan.target.number)
    try:
        await ports.stream.hint_version(version.number)
    except ConnectionError:
        log.warning("version_hint_failed", version=version.number)
    if plan.effect.stays_out:
        try:
            await ports.ledger.append_event(PENDING_EVENT, {"version": version.number, **plan.pending()})
        except StoreUnavailable as error:
            log.warning("event_not_written", type=PENDING_EVENT, problem=str(error))
