"""How much of texts the serving encoder reads: for `pawl import` and `pawl doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.commands.home.stores import HomeStores
from pawl.artefacts import FolderArtefactStore
from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.classifier.encoders.tokenization import TextTokenizer
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.reading import ReadingTotals, unknown_language
from pawl.domain.samples import digest_text
from pawl.settings import Settings

_LOOKED_AT = 1000
_CHUNK = 512

Labelled = tuple[str, str, str]
"""Task, text and label."""


async def tokenizer_of(settings: Settings, stores: HomeStores) -> TextTokenizer | None:
    """Returns the live version's tokenizer; None without a version or an encoder, or where it cannot be read."""
    live = await stores.ledger.live()
    if live is None:
        return None
    # The path, not `open`: a measurement is not worth verifying all digests of a version.
    folder = FolderArtefactStore(settings.artefacts_path).path(live.number) / ENCODER_FOLDER
    try:
        spec = EncoderSpec.from_file(folder / SPEC_FILE)
        return None if spec.is_none else await asyncio.to_thread(TextTokenizer, folder, spec)
    except ArtefactCorrupt:
        return None


def measure(tokenizer: TextTokenizer, rows: Sequence[Labelled]) -> tuple[ReadingTotals, list[str]]:
    """Returns totals over the texts, and sentences about what the encoder does not read. Call it in a thread."""
    read = []
    for start in range(0, len(rows), _CHUNK):
        read += tokenizer.read([text for _, text, _ in rows[start : start + _CHUNK]])
    sums, sentences = ReadingTotals.of(read), []
    if sums.is_unknown_language:
        sentences.append(unknown_language(sums.unknown_share))
    if sums.truncated:
        sentences.append(
            f"truncated: {sums.truncated} of {sums.texts} texts have more tokens than the encoder takes "
            f"({tokenizer.max_tokens}); it does not see what comes after them"
        )
    # (task, digest of what is read) -> label -> digests of whole texts. The encoder tells nothing in a group apart.
    labels: dict[tuple[str, str], dict[str, set[str]]] = {}
    for (task, text, label), reading in zip(rows, read, strict=True):
        if reading.cut is not None:
            labels.setdefault((task, reading.cut), {}).setdefault(label, set()).add(digest_text(text))
    alike = sum(len(set().union(*each.values())) for each in labels.values() if len(each) > 1)
    if alike:
        sentences.append(
            f"cannot_hold: {alike} of these differ from others only after that, but in their label: they get one answer"
        )
    return sums, sentences


async def look_at_store(settings: Settings, stores: HomeStores) -> tuple[ReadingTotals, list[str]] | None:
    """Measures the oldest learned texts of each task. Returns None where there is no version."""
    tokenizer = await tokenizer_of(settings, stores)
    if tokenizer is None:
        return None
    rows = []
    for task in await stores.samples.tasks():
        rows += [(task, sample.text, sample.label) for sample in await stores.samples.learned(task, 0, _LOOKED_AT)]
    return await asyncio.to_thread(measure, tokenizer, rows)
