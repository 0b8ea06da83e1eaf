"""Checks when the learner starts whether the chosen encoder can be used, and not only when the first label comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import torch

from pawl.backoff import Backoff
from pawl.classifier.encoders.spec import NO_ENCODER_DIGEST, encoder_digest
from pawl.domain.errors import EncoderRejected, StoreUnavailable
from pawl.domain.learner import EncoderState
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.settings import Settings
from worker.health.environment import ENCODER, Environment
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState


class EncoderCheck:
    """Checks once. `empty_state` exports the encoder of a first version, and opens it on a backend that is proven."""

    def __init__(
        self,
        ports: LearnerPorts,
        empty_state: Callable[[], LearnerState],
        environment: Environment,
        settings: Settings,
    ) -> None:
        self._ledger = ports.ledger
        self._artefacts = ports.artefacts
        self._empty_state = empty_state
        self._environment = environment
        self._settings = settings
        self._verdict = EncoderState.UNKNOWN

    @property
    def verdict(self) -> EncoderState:
        """What was found, for the heartbeat."""
        return self._verdict

    async def settle(
        self,
        pause: Callable[[float], Awaitable[None]],
        tell: Callable[[], Awaitable[None]],
        stopping: Callable[[], bool],
    ) -> None:
        """Returns when the encoder can be used, or when the process is to end.

        A fault of the environment is waited out. Raises `EncoderRejected`, after `tell` has reported it, where the
        encoder cannot be used.
        """
        backoff = Backoff(first=0.2)
        while self._verdict is EncoderState.UNKNOWN and not stopping():
            try:
                await self._check()
            except EncoderRejected as error:
                await self.refuse(error)
                await tell()
                raise
            except Exception as error:  # noqa: BLE001 - a full disk, a server that is away, a schema that is older
                if not isinstance(error, StoreUnavailable):
                    await self._environment.report(error, ENCODER)
                await pause(backoff.next_pause())
            else:
                self._verdict = EncoderState.USABLE
                await self._environment.recover(ENCODER)

    async def refuse(self, error: EncoderRejected) -> None:
        """No version is made with it by this process."""
        self._verdict = EncoderState.REFUSED
        await self._environment.report(error, ENCODER)

    async def _check(self) -> None:
        """A home that has a version asks for no other encoder than its own. Raises `EncoderRejected` naming it."""
        live = await self._ledger.live()
        folder = self._artefacts.path(live.number) / ENCODER_FOLDER if live is not None else None
        if folder is None:
            try:
                folder = (await asyncio.to_thread(self._empty_state)).encoder_folder
            except EncoderRejected as error:  # maybe of the copy that was made of it
                raise EncoderRejected(path=self._settings.encoder, problem=error.details["problem"]) from error
        if self._settings.pruned_share and folder.is_dir() and encoder_digest(folder) != NO_ENCODER_DIGEST:
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
