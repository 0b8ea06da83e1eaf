"""What a consolidation reads from SQL: the learned samples, the golden texts, and what the encoder saw before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pawl.domain.samples import Sample, SampleState
from pawl.ports import ArtefactStore, SampleStore, VersionLedger
from pawl.versions.lineage import trained_samples
from worker.consolidation.data.replay import SampleRef

_PAGE = 5000
_ALL = 10_000_000  # more than any store holds: a limit for a query that wants none


@dataclass(frozen=True, slots=True)
class TrainingStores:
    """What a training reads from. It writes to none of them; a chosen encoder's embeddings are the one exception."""

    samples: SampleStore
    ledger: VersionLedger
    artefacts: ArtefactStore


@dataclass(frozen=True, slots=True)
class Inputs:
    """`learned` and `golden` are in the order of tasks and `seq`; `seen` are ids the encoder was trained on before."""

    learned: tuple[SampleRef, ...]
    golden: tuple[SampleRef, ...]
    seen: frozenset[str]


async def read_inputs(samples: SampleStore, ledger: VersionLedger, number: int, watermark: int) -> Inputs:
    """Reads what may be trained on from the version with this number on, with `seq` up to the watermark.

    Samples whose retraction was asked for are left out: nothing may be trained on them.
    """
    version = await ledger.get(number)
    learned: list[SampleRef] = []
    golden: list[SampleRef] = []
    for task in sorted({*version.heads, *await samples.tasks()}):
        # No watermark for golden samples: they are not trained on, and a newer one must still keep its text out.
        golden.extend(SampleRef.of(sample) for sample in await samples.golden(task, _ALL))
        after = 0
        # By `seq` and not by offset: samples that leave between two pages would shift an offset past others.
        while page := [s for s in await samples.learned(task, after, _PAGE) if s.seq <= watermark]:
            learned.extend(SampleRef.of(sample) for sample in page if not sample.retract_requested)
            after = page[-1].seq
    return Inputs(tuple(learned), tuple(golden), await trained_samples(ledger, version.encoder_digest, number))


async def read_samples(samples: SampleStore, ids: Iterable[str]) -> dict[str, Sample]:
    """The samples by id. Those that were retracted since their ids were read are left out."""
    wanted = list(ids)
    samples_by_id: dict[str, Sample] = {}
    for start in range(0, len(wanted), _PAGE):
        for sample in await samples.get_many(wanted[start : start + _PAGE]):
            if sample.state in {SampleState.LEARNED, SampleState.GOLDEN} and not sample.retract_requested:
                samples_by_id[sample.id] = sample
    return samples_by_id
