"""Which samples an encoder was trained on: by itself, and by the encoders that it comes from."""

from __future__ import annotations

from collections import defaultdict

from pawl.domain.versions import LedgerAction, Version, VersionState
from pawl.ports import VersionLedger

_PAGE = 200  # versions whose ledger rows are read at a time: those of a long lineage do not fit in memory


async def trained_samples(ledger: VersionLedger, encoder_digest: str, up_to: int) -> frozenset[str]:
    """Ids of the samples that the encoder with this digest, and those it comes from, were trained on.

    `up_to` is the number of the last version that counts. The lineage is that of the encoders' digests, not of the
    version numbers: after a roll-back the live encoder is an old one, and what the ones after it were trained on is new
    to it.
    """
    trained: defaultdict[int, list[str]] = defaultdict(list)
    for start in range(0, up_to, _PAGE):
        for row in await ledger.ledger(start, min(start + _PAGE, up_to)):
            if row.action is LedgerAction.ENCODER:
                trained[row.version].append(row.sample_id)
    makers: dict[str, Version] = {}
    for number in sorted(trained):
        maker = await ledger.get(number)
        if maker.state is not VersionState.REFUSED:
            # The first with this digest: a version that is forced again writes the same rows again.
            makers.setdefault(maker.encoder_digest, maker)
    samples: set[str] = set()
    digest = encoder_digest
    # `pop`, so that it ends also where an encoder's digest comes again among its own parents.
    while (maker_of := makers.pop(digest, None)) is not None:
        samples.update(trained[maker_of.number])
        if maker_of.parent is None:
            break
        digest = (await ledger.get(maker_of.parent)).encoder_digest
    return frozenset(samples)
