"""How much of texts the encoder reads, and which one would: for `pawl import` and `pawl doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.commands.home.stores import HomeStores
from app.demo import SOURCE
from pawl.classifier.encoders.source import find_encoder
from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.classifier.encoders.tokenization import TextTokenizer
from pawl.classifier.lexical import LONGEST
from pawl.domain.errors import ArtefactCorrupt, EncoderRejected
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.reading import ReadingTotals
from pawl.domain.samples import digest_text
from pawl.domain.scripts import Recommendation, ScriptShares, recommend_encoder
from pawl.json_values import Json
from pawl.settings import Settings
from pawl.versions.contradictions import served_version

_LOOKED_AT = 1000
_CHUNK = 512

Labelled = tuple[str, str, str]
"""Task, text and label."""


@dataclass(frozen=True, slots=True)
class TextReader:
    """What reads texts in a home: the live version, or the settings before there is one.

    encoder    as its choice names it; None where that is not known.
    tokenizer  None where there is no encoder, or where it cannot be read.
    words      whether a words head answers beside it, or instead of it.
    """

    encoder: str | None
    tokenizer: TextTokenizer | None
    words: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What is read of some texts. `sentences` tell what is not, and which encoder would read it."""

    scripts: ScriptShares
    totals: ReadingTotals | None = None
    recommendation: Recommendation | None = None
    sentences: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        """The values that `pawl import --json` gives."""
        return {
            "reading": None if self.totals is None else self.totals.to_json(),
            "scripts": dict(self.scripts.shares),
            "recommended_encoder": None if self.recommendation is None else self.recommendation.encoder,
            "unread": self.sentences,
        }


async def reader_of_home(settings: Settings, stores: HomeStores) -> TextReader:
    """What reads the texts of a home."""
    live = await stores.ledger.live()
    if live is None:
        return await asyncio.to_thread(_of_settings, settings)
    served = await served_version(stores.ledger, stores.artefacts)
    encoder = None if served is None or served.origin is None else served.origin.choice.encoder
    # The path, not `open`: a measurement is not worth verifying all digests of a version.
    folder = stores.artefacts.path(live.number) / ENCODER_FOLDER
    words = any(info.lexical is not None for info in live.heads.values())
    return TextReader(encoder, await asyncio.to_thread(_tokenizer, folder, None), words)


def _of_settings(settings: Settings) -> TextReader:
    tokenizer = None
    try:
        # From this machine alone: a look at texts downloads nothing.
        source = find_encoder(settings.encoder, settings.encoder_sha256, here_only=True)
        limit = min(settings.max_tokens, source.max_tokens or settings.max_tokens)
        spec = EncoderSpec("mean", limit, 1, prompt=source.prompt)
        tokenizer = None if source.is_none else _tokenizer(source.folder, spec)
    except EncoderRejected:
        pass  # the learner tells it; what letters the texts have can be told without
    return TextReader(settings.encoder, tokenizer, words=settings.lexical_size > 0)


def _tokenizer(folder: Path, spec: EncoderSpec | None) -> TextTokenizer | None:
    try:
        spec = spec or EncoderSpec.from_file(folder / SPEC_FILE)
        return None if spec.is_none else TextTokenizer(folder, spec)
    except ArtefactCorrupt:
        return None


def measure(reader: TextReader, rows: Sequence[Labelled]) -> Measured:
    """Measures texts. Call it in a thread."""
    scripts = ScriptShares.of(text for _, text, _ in rows)
    if reader.tokenizer is None:
        advice = recommend_encoder(scripts, None, reader.encoder, words=reader.words)
        sentences = [] if advice is None else [advice.sentence]
        return Measured(scripts, None, advice, sentences + _beyond_words(reader, rows))
    read = []
    for start in range(0, len(rows), _CHUNK):
        read += reader.tokenizer.read([text for _, text, _ in rows[start : start + _CHUNK]])
    totals = ReadingTotals.of(read)
    advice = recommend_encoder(scripts, totals, reader.encoder, words=reader.words)
    sentences = [] if advice is None else [advice.sentence]
    if totals.truncated:
        sentences.append(
            f"truncated: {totals.truncated} of {totals.texts} texts have more tokens than the encoder takes "
            f"({reader.tokenizer.max_tokens}); it does not see what comes after them"
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
    return Measured(scripts, totals, advice, sentences)


def _beyond_words(reader: TextReader, rows: Sequence[Labelled]) -> list[str]:
    """Texts that are longer than words are read from, where nothing else reads them."""
    longer = sum(len(text) > LONGEST for _, text, _ in rows)
    if not reader.words or not longer:
        return []
    return [f"truncated: {longer} of {len(rows)} texts have more than {LONGEST} characters; no word after them is read"]


async def look_at_store(settings: Settings, stores: HomeStores) -> Measured | None:
    """Measures the oldest learned texts of each task, but the demo's. Returns None where there is no version."""
    if await stores.ledger.live() is None:
        return None
    reader, rows = await reader_of_home(settings, stores), []
    for task in await stores.samples.tasks():
        learned = await stores.samples.learned(task, 0, _LOOKED_AT)
        # The demo shows a language that the default encoder does not read; that is no advice for the data of others.
        rows += [(task, sample.text, sample.label) for sample in learned if sample.source != SOURCE]
    return await asyncio.to_thread(measure, reader, rows)
