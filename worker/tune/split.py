"""Which samples judge the trials; chosen without torch, so that too few of them are reported at once."""

from __future__ import annotations

from dataclasses import dataclass

from pawl.classifier.encoders.spec import NO_ENCODER_DIGEST
from pawl.domain.encoders import NOTHING_TO_TRAIN
from pawl.domain.errors import InvalidInput, VersionNotFound
from pawl.ports import SampleStore, VersionLedger
from pawl.settings import Settings
from worker.consolidation.data.inputs import Inputs, read_inputs
from worker.consolidation.data.replay import SampleRef, stratified, trainable

_DEV_SHARE = 0.2  # the rest is what the trials train on
_DEV_LIMIT = 1000
_FEWEST = 50
NEEDED = int(_FEWEST / _DEV_SHARE)
"""Samples that the encoder has not seen, at least."""
_LAST = 2**62  # a watermark above every `seq`, and within SQL's 64 bits


@dataclass(frozen=True, slots=True)
class TuneSplit:
    """`fresh` are samples that no encoder was trained on; `dev`, a part of them, judges the trials.

    `live` is the number of the live version, `golden` are digests of golden texts.
    """

    live: int
    inputs: Inputs
    golden: frozenset[str]
    fresh: tuple[SampleRef, ...]
    dev: tuple[SampleRef, ...]


async def split_store(samples: SampleStore, ledger: VersionLedger, settings: Settings) -> TuneSplit:
    """Reads the store. Raises `VersionNotFound`, and `InvalidInput` where there is too little."""
    live = await ledger.live()
    if live is None:
        raise VersionNotFound(number="live")
    if live.encoder_digest == NO_ENCODER_DIGEST:
        raise InvalidInput(problem=f"{NOTHING_TO_TRAIN}, so there are no settings to search")
    inputs = await read_inputs(samples, ledger, live.number, _LAST)
    golden = frozenset(sample.text_digest for sample in inputs.golden)
    # By text, not id: a text that the encoder was trained on for another task is not fresh.
    seen_texts = {sample.text_digest for sample in inputs.learned if sample.id in inputs.seen}
    fresh = tuple(s for s in trainable(inputs.learned, golden) if s.text_digest not in seen_texts)
    chosen = {sample.text_digest for sample in stratified(fresh, _DEV_SHARE, _DEV_LIMIT, settings.seed)}
    dev = tuple(sample for sample in fresh if sample.text_digest in chosen)  # a text with two labels: both
    if len(dev) < _FEWEST:
        problem = f"{len(fresh)} samples that the encoder has not seen are too few to compare settings on (>= {NEEDED})"
        raise InvalidInput(problem=problem)
    return TuneSplit(live.number, inputs, golden, fresh, dev)
