"""From a set of heads to a version on disk and in the ledger.

The publisher writes the artefacts first, content-addressed; then one SQL transaction makes the version live; then the
apps get a hint. A crash between any two steps leaves the old version serving: retention removes files without a row,
and the apps' poll finds a row without a hint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from pawl.classifier.encoders.spec import digest_of_files
from pawl.classifier.features import RandomFeatures
from pawl.classifier.served_heads import ServedHeads
from pawl.domain.encoders import MADE_WITH, EncoderOrigin
from pawl.domain.errors import ArtefactCorrupt, ParentNotLive, VersionNotFound
from pawl.domain.gate_reports import GateReport
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE, Manifest
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.versions import HeadInfo, LedgerChange, NewVersion, Version, VersionKind
from pawl.installed import installed_versions
from pawl.json_values import Json
from pawl.ports import VersionFolder
from pawl.versions.rollback import promote_again
from worker.state.learner_ports import LearnerPorts

_LIBRARIES = ("pawl-server", "numpy", "onnxruntime", "tokenizers", "torch", "transformers")
PROBATION_FAILED = "probation_failed"
_LASTING = (VersionKind.BOOTSTRAP, VersionKind.CONSOLIDATION, VersionKind.ENCODER)
_LASTING_KEPT = 10
"""So many versions of these kinds outlive the newest `keep_versions`: each is the way back to another encoder."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """All that goes into one candidate's folder and row; heads by task."""

    kind: VersionKind
    trigger: str
    parent: int | None
    encoder_folder: Path
    encoder_digest: str
    heads: Mapping[str, ServedHeads]
    features: RandomFeatures
    settings: Json
    watermark: int
    made_with: EncoderOrigin | None
    samples_new: int = 0
    samples_replayed: int = 0
    metrics: Json = field(default_factory=dict)
    reason: str | None = None


class Publisher:
    """Writes candidates, promotes or refuses them, and lets go of old artefacts."""

    def __init__(
        self,
        ports: LearnerPorts,
        *,
        keep_versions: int,
    ) -> None:
        self._ports = ports
        self._ledger = ports.ledger
        self._artefacts = ports.artefacts
        self._keep = keep_versions
        self._libraries = installed_versions(_LIBRARIES)
        self._packed: tuple[RandomFeatures, bytes] | None = None

    def encoder_folder(self, number: int) -> Path:
        """Where a written version's encoder lies."""
        return self._artefacts.path(number) / ENCODER_FOLDER

    async def write(self, draft: Draft) -> NewVersion:
        """Writes the folder of the next number; nothing serves it yet."""
        number = await self._ledger.next_number()
        try:
            return await asyncio.to_thread(self._write, number, draft)
        except ArtefactCorrupt:
            if draft.parent is None:
                raise
            await asyncio.to_thread(self._artefacts.open, draft.parent)  # heals it from another copy, or raises
            return await asyncio.to_thread(self._write, number, draft)

    async def probe(self) -> None:
        """Writes a file as versions' files are written, and reads it back. Raises what does not work."""
        await asyncio.to_thread(self._artefacts.probe)

    async def take_back(self, version: NewVersion) -> None:
        """Reads a written candidate as an app would, and removes it. Raises what does not work."""
        try:
            await asyncio.to_thread(self._artefacts.open, version.number)
        finally:
            await self.discard(version)

    async def discard(self, version: NewVersion) -> None:
        """Removes the folder of a candidate that will get no row."""
        await asyncio.to_thread(self._artefacts.remove, [version.number])

    async def promote(self, version: NewVersion, report: GateReport, change: LedgerChange) -> Version:
        """Makes a written candidate live. Raises `ParentNotLive` when another one came first."""
        try:
            promoted = await self._ledger.promote(_judged(version, report), change)
        except ParentNotLive:
            # It gets no row, and its folder would lie there until retention passes its number.
            await self.discard(version)
            raise
        try:
            await self._ports.stream.hint_version(promoted.number)
        except ConnectionError:  # a hint only: the apps poll SQL
            log.warning("version_hint_failed", version=promoted.number)
        return promoted

    async def refuse(
        self, version: NewVersion, report: GateReport, change: LedgerChange, harmful: Mapping[str, str]
    ) -> Version:
        """Records a candidate the gate refused, with what it would have changed, and puts the samples that are known to
        have made it bad into quarantine (id -> why).
        """
        refused = await self._ledger.refuse(_judged(version, report), change, harmful)
        log.warning("version_refused", version=refused.number, reasons=list(report.reasons))
        return refused

    async def roll_back(self, number: int, reason: str) -> Version:
        """Makes an earlier version's artefacts live again, because the present one failed its probation."""
        kind = QuarantineKind.PROBATION
        version = (
            await promote_again(number, reason=reason, promoted_by="probation", ports=self._ports, kind=kind)
        ).version
        failed = {"version": version.parent, "back_to": number, "as": version.number, "reason": reason}
        await self._ledger.append_event(PROBATION_FAILED, failed)
        log.warning("probation_failed", **failed)
        return version

    async def retire_old(self, protected: frozenset[int] = frozenset()) -> list[int]:
        """Removes the artefacts of versions beyond retention, but for `protected` ones; rows and reports stay."""
        kept = await asyncio.to_thread(self._artefacts.kept)
        recent = await self._ledger.page(None, self._keep)
        safe = {version.number for version in recent} | protected
        live = await self._ledger.live()
        if live is not None:
            safe.add(live.number)
        # A number above all of these may be a candidate that another process is about to promote.
        old = [number for number in kept if number not in safe and number < max(safe, default=0)]
        lasting = [number for number in old if await self._kind(number) in _LASTING]
        retired = [number for number in old if number not in lasting[-_LASTING_KEPT:]]
        if retired:
            # The row first: files that a crash leaves behind are removed next time, a row without files misleads.
            await self._ledger.mark_artefacts_gone(retired)
            await asyncio.to_thread(self._artefacts.remove, retired)
        return retired

    async def _kind(self, number: int) -> VersionKind | None:
        try:
            return (await self._ledger.get(number)).kind
        except VersionNotFound:  # written, but the process died before its row
            return None

    def _write(self, number: int, draft: Draft) -> NewVersion:
        files: dict[str, Path | bytes] = {
            f"{ENCODER_FOLDER}/{path.name}": path for path in sorted(draft.encoder_folder.iterdir()) if path.is_file()
        }
        files[FEATURES_FILE] = self._pack(draft.features)
        infos: dict[str, HeadInfo] = {}
        for task, heads in draft.heads.items():
            infos[task], packed = heads.packed(task)
            files |= packed
        folder = self._publish(number, draft, infos, files)
        self._check_encoder(folder, draft)
        return NewVersion(
            number=folder.number,
            parent=draft.parent,
            kind=draft.kind,
            trigger=draft.trigger,
            encoder_digest=draft.encoder_digest,
            heads=infos,
            manifest_digest=folder.manifest_digest,
            size_bytes=sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file()),
            samples_new=draft.samples_new,
            samples_replayed=draft.samples_replayed,
            watermark=draft.watermark,
            metrics=draft.metrics,
            reason=draft.reason,
        )

    def _check_encoder(self, folder: VersionFolder, draft: Draft) -> None:
        """Removes the folder and raises `ArtefactCorrupt` if the encoder was damaged on disk since it was loaded."""
        prefix = f"{ENCODER_FOLDER}/"
        files = {
            path.removeprefix(prefix): each for path, each in folder.manifest.files.items() if path.startswith(prefix)
        }
        digest = digest_of_files(files)
        if digest != draft.encoder_digest:
            self._artefacts.remove([folder.number])
            raise ArtefactCorrupt(path=draft.encoder_folder, problem="it is not what it was when it was loaded")

    def _pack(self, features: RandomFeatures) -> bytes:
        """The contents of the features' file, packed once for all versions that have them.

        Not the last version's file: one that was damaged since would be passed on under a manifest that vouches for it.
        """
        if self._packed is None or self._packed[0] is not features:
            self._packed = features, features.to_bytes()
        return self._packed[1]

    def _publish(
        self, number: int, draft: Draft, heads: Mapping[str, HeadInfo], files: Mapping[str, Path | bytes]
    ) -> VersionFolder:
        """Takes the first number from `number` on that has no folder.

        A folder without a row may be a candidate that another process is about to promote: it must not get new files
        under a row that names the old ones.
        """
        while True:
            manifest = Manifest(
                version=number,
                parent=draft.parent,
                kind=draft.kind,
                encoder_digest=draft.encoder_digest,
                heads=heads,
                settings=draft.settings | ({MADE_WITH: draft.made_with.to_json()} if draft.made_with else {}),
                watermark=draft.watermark,
                libraries=self._libraries,
            )
            try:
                return self._artefacts.publish(number, manifest, files, exclusive=True)
            except FileExistsError:
                if not self._artefacts.path(number).exists():
                    raise  # something else is in the way, and would be for every number
                number += 1


def _judged(version: NewVersion, report: GateReport) -> NewVersion:
    return replace(version, gate=report.to_json())
