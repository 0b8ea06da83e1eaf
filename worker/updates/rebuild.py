"""A live version whose files are damaged, and of which there is no other copy, is made anew from SQL as the next one.

SQL knows what is in the heads, so only the encoder has to come from files: that of the live version where it is whole,
else the newest whole one of any version, else the encoder that the settings name. With another encoder the samples are
embedded again. The heads are refitted and published without the gate: there is nothing to compare them with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from pawl.classifier.encoders.home_encoder import features_for, lexical_for
from pawl.classifier.encoders.spec import encoder_digest
from pawl.domain.encoders import EncoderOrigin
from pawl.domain.errors import ArtefactCorrupt, PlaceUnwell
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.versions import Version, VersionKind
from pawl.ports import Encoder
from pawl.settings import Settings
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.updates.step import Step
from worker.updates.step_runner import StepRunner

DAMAGED = "artefact_damaged"
REMADE = "artefact_remade"
log = structlog.get_logger(__name__)


class Rebuild:
    """Brings the learner to the live version, whatever has become of its files."""

    def __init__(
        self,
        runner: StepRunner,
        recovery: Recovery,
        ports: LearnerPorts,
        empty_state: Callable[[], LearnerState],
        open_encoder: Callable[[Path, str], Encoder],
        settings: Settings,
    ) -> None:
        self._runner = runner
        self._recovery = recovery
        self._ledger = ports.ledger
        self._artefacts = ports.artefacts
        self._open_encoder = open_encoder
        self._empty_state = empty_state
        self._settings = settings

    async def catch_up(self) -> LearnerState | None:
        """As `StepRunner.catch_up`; a live version damaged beyond healing is succeeded by one that is whole."""
        try:
            return await self._runner.catch_up()
        except ArtefactCorrupt as error:
            live = await self._ledger.live()
            if live is None:
                raise
            return await self._rebuild(live, error)

    async def _rebuild(self, live: Version, error: ArtefactCorrupt) -> LearnerState:
        log.error(DAMAGED, version=live.number, problem=str(error))
        await self._ledger.append_event(DAMAGED, {"version": live.number, "problem": str(error)})
        # What the encoder was trained on judges nothing, so that is asked for the encoder that is left, not for the
        # lost one.
        state = await asyncio.to_thread(self._base, live)
        state = replace(
            state,
            trained=await self._recovery.trained_on(state.encoder.digest, live.number),
            encoder_watermark=int(live.metrics.get("encoder_watermark", 0)),
        )
        state = await self._recovery.centred(state)
        state = await self._recovery.rebuild(state, live)
        trigger = "remade: files of its parent are damaged"
        step = Step(VersionKind.HEAD, trigger, {}, forced="damaged files", needs_snapshot=True)
        version, report = await self._runner.run(state, step)
        if version is None:
            raise PlaceUnwell(problem="; ".join(report.reasons)) from error
        state = self._runner.live
        same = version.encoder_digest == live.encoder_digest
        await self._ledger.append_event(
            REMADE,
            {"version": version.number, "instead_of": live.number, "samples": state.samples, "same_encoder": same},
        )
        log.warning(REMADE, version=version.number, instead_of=live.number, samples=state.samples, same_encoder=same)
        return state

    def _base(self, live: Version) -> LearnerState:
        """An empty state on the best encoder that is left."""
        folders = [self._artefacts.path(number) for number in sorted(self._artefacts.kept(), reverse=True)]
        # Stable: the live version's own folder first, the others still from the newest on.
        folders.sort(key=lambda folder: folder != self._artefacts.path(live.number))
        whole = self._whole(folders, live.encoder_digest) or self._whole(folders, None)
        if whole is None:
            return self._empty_state()
        folder, number, digest = whole
        try:
            origin = EncoderOrigin.of(self._artefacts.manifest(number).settings)
        except ArtefactCorrupt:
            origin = None
        choice = origin.choice if origin is not None else self._settings.encoder_choice
        encoder = self._open_encoder(folder, digest)
        return LearnerState(
            0,
            encoder,
            folder,
            features_for(folder, choice),
            self._settings,
            made_with=origin,
            lexical=lexical_for(choice),
        )

    def _whole(self, folders: list[Path], wanted: str | None) -> tuple[Path, int, str] | None:
        """The first version's encoder that has the wanted digest, or the one its own manifest names; with its number.

        Versions share their files, so each set of inodes is read once.
        """
        read: dict[tuple[int, ...], str] = {}
        for version in folders:
            folder = version / ENCODER_FOLDER
            try:
                inodes = tuple(sorted(path.stat().st_ino for path in folder.iterdir()))
                digest = read[inodes] = read.get(inodes) or encoder_digest(folder)
            except OSError:
                continue
            if digest == (wanted or self._named(int(version.name))):
                return folder, int(version.name), digest
        return None

    def _named(self, number: int) -> str | None:
        try:
            return self._artefacts.manifest(number).encoder_digest
        except ArtefactCorrupt:
            return None
