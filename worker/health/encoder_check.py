"""Whether the encoder that was chosen can be used, asked when the learner starts: not when the first label has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import torch

from pawl.backoff import Backoff
from pawl.domain.errors import EncoderRejected, StoreUnavailable
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.versions import EncoderState
from pawl.settings import Settings
from worker.health.trouble import ENCODER, Place
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState


class Suitability:
    """Asks once. `first_state` exports the encoder of a first version, and opens it on a backend that is proven.

    `encoder` is what it found, for the heartbeat.
    """

    def __init__(
        self,
        ports: LearnerPorts,
        first_state: Callable[[], LearnerState],
        place: Place,
        settings: Settings,
    ) -> None:
        self._ledger = ports.ledger
        self._artefacts = ports.artefacts
        self._first_state = first_state
        self._place = place
        self._settings = settings
        self.encoder = EncoderState.UNKNOWN

    async def settle(
        self,
        pause: Callable[[float], Awaitable[None]],
        tell: Callable[[], Awaitable[None]],
        stopping: Callable[[], bool],
    ) -> None:
        """Returns when learning can go on with it, or when the process is to end.

        What is the place's fault is waited out. An encoder that cannot be used is refused once, with its name: raises
        `EncoderRejected`, after `tell` has told it.
        """
        backoff = Backoff(first=0.2)
        while self.encoder is EncoderState.UNKNOWN and not stopping():
            try:
                await self._check()
            except EncoderRejected as error:
                await self.refuse(error)
                await tell()
                raise
            except Exception as error:  # noqa: BLE001 - a full disk, a server that is away, a schema that is older
                if not isinstance(error, StoreUnavailable):
                    await self._place.report(error, ENCODER)
                await pause(backoff.next_pause())
            else:
                self.encoder = EncoderState.USABLE
                await self._place.recover(ENCODER)

    async def refuse(self, error: EncoderRejected) -> None:
        """No version is made with it by this process."""
        self.encoder = EncoderState.REFUSED
        await self._place.report(error, ENCODER)

    async def _check(self) -> None:
        """A home that has a version asks for no other encoder than its own. Raises `EncoderRejected` naming it."""
        live = await self._ledger.live()
        folder = self._artefacts.path(live.number) / ENCODER_FOLDER if live is not None else None
        if folder is None:
            try:
                folder = (await asyncio.to_thread(self._first_state)).encoder_folder
            except EncoderRejected as error:  # maybe of the copy that was made of it
                raise EncoderRejected(path=self._settings.encoder, problem=error.details["problem"]) from error
        if self._settings.pruned_share and folder.is_dir():
            await asyncio.to_thread(check_pruning, folder, self._settings)


def check_pruning(folder: Path, settings: Settings) -> None:
    """Prunes the transformer of an encoder folder without its weights.

    Raises `EncoderRejected` where its layers cannot do with fewer neurons.
    """
    # A second of every start, for those who prune alone.
    from transformers import AutoConfig, AutoModel

    from worker.consolidation.pruning import prune

    build: Any = AutoModel.from_config  # transformers does not annotate it
    try:
        with torch.device("meta"):
            prune(build(AutoConfig.from_pretrained(folder)), settings.pruned_share)
    except EncoderRejected as error:
        problem = f"PAWL_COMPRESSION={settings.compression} is not possible with it: {error.details['problem']}"
        raise EncoderRejected(path=settings.encoder, problem=f"{problem}; take none or int8") from error
