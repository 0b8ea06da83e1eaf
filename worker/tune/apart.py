"""Which samples judge the trials; found without torch, so that too few of them are told at once."""

from __future__ import annotations

from dataclasses import dataclass

from pawl.domain.errors import InvalidInput, VersionNotFound
from pawl.ports import SampleStore, VersionLedger
from pawl.settings import Settings
from worker.consolidation.data.inputs import Inputs, read_inputs
from worker.consolidation.data.replay import Candidate, stratified, trainable

_DEV_SHARE = 0.2
_DEV_LIMIT = 1000
_FEWEST = 50
NEEDED = int(_FEWEST / _DEV_SHARE)
"""Samples that the encoder has not seen, at least."""
_LAST = 2**62


@dataclass(frozen=True, slots=True)
class Apart:
    """Samples no encoder was trained on: `fresh`, and those of them that are `dev`. `golden` are texts."""

    live: int
    inputs: Inputs
    golden: frozenset[str]
    fresh: tuple[Candidate, ...]
    dev: tuple[Candidate, ...]


async def set_apart(samples: SampleStore, ledger: VersionLedger, settings: Settings) -> Apart:
    """Reads the store. Raises `VersionNotFound`, and `InvalidInput` where there is too little."""
    live = await ledger.live()
    if live is None:
        raise VersionNotFound(number="live")
    inputs = await read_inputs(samples, ledger, live.number, _LAST)
    golden = frozenset(candidate.text_digest for candidate in inputs.golden)
    seen_texts = {c.text_digest for c in inputs.learned if c.id in inputs.seen}
    fresh = tuple(c for c in trainable(inputs.learned, golden) if c.text_digest not in seen_texts)
    chosen = {c.text_digest for c in stratified(fresh, _DEV_SHARE, _DEV_LIMIT, settings.seed)}
    dev = tuple(c for c in fresh if c.text_digest in chosen)
    if len(dev) < _FEWEST:
        problem = f"{len(fresh)} samples that the encoder has not seen are too few to compare settings on (>= {NEEDED})"
        raise InvalidInput(problem=problem)
    return Apart(live.number, inputs, golden, fresh, dev)
