"""Finds settings that contradict what a home was made with.

Of the settings that decide the features, only those that somebody set can contradict: a setting with its default value
asks for nothing, and what serves stays. An encoder that was asked for and waits for the learner is a plan, and no
contradiction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from pawl.classifier.encoders.home_encoder import lexical_for
from pawl.classifier.encoders.source import find_encoder
from pawl.domain.encoders import EncoderChoice, EncoderOrigin, EncoderRequest, EncoderRequestState
from pawl.domain.errors import ArtefactCorrupt, EncoderRejected, SettingsContradict
from pawl.ports import ArtefactStore, SampleStore, VersionLedger
from pawl.settings import PREFIX, Settings

_OF_WORDS = ("lexical_size",)
_COMPARED = ("encoder_prefix", "max_tokens", "pooled_layers", "random_features", "seed", *_OF_WORDS)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A setting that asks for other than what serves, as a sentence; `remedy` says what to do.

    `is_plan` marks a setting that takes effect by itself later: it is reported, and no process refuses to start for it.
    """

    setting: str
    sentence: str
    remedy: str
    is_plan: bool = False

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """The live version: its number, what its encoder was made of, the newest request for another encoder, and by task
    what its fast answers may cost, where there are such.
    """

    version: int
    origin: EncoderOrigin | None
    request: EncoderRequest | None
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def planned(self) -> EncoderChoice | None:
        """The encoder that the learner is about to try; None where none is asked for."""
        waits = self.request is not None and self.request.state is EncoderRequestState.PENDING
        return self.request.choice if self.request is not None and waits else None


async def served_version(ledger: VersionLedger, artefacts: ArtefactStore) -> ServedVersion | None:
    """Reads the live version from the stores; None before the first one. Raises `StoreUnavailable`."""
    live = await ledger.live()
    if live is None:
        return None
    losses = {
        task: head.lexical.loss
        for task, head in live.heads.items()
        if head.lexical is not None and head.lexical.loss is not None
    }
    request = await ledger.last_encoder_request()
    try:
        manifest = await asyncio.to_thread(artefacts.manifest, live.number)
    except ArtefactCorrupt:  # what loads the version reports and heals it; its origin cannot be read meanwhile
        return ServedVersion(live.number, None, request, losses)
    return ServedVersion(live.number, EncoderOrigin.of(manifest.settings), request, losses)


async def find_contradictions(
    settings: Settings, ledger: VersionLedger, artefacts: ArtefactStore, samples: SampleStore
) -> list[Contradiction]:
    """Returns all contradictions of a home. Raises `StoreUnavailable`."""
    served = await served_version(ledger, artefacts)
    of_encoder = [] if served is None else await asyncio.to_thread(compare, settings, served)
    of_words = [] if served is None else fast_answers_planned(settings, served)
    return [*of_encoder, *of_words, *_splits(settings, *await samples.split_bounds())]


async def refuse_contradictions(
    settings: Settings, ledger: VersionLedger, artefacts: ArtefactStore, samples: SampleStore
) -> list[Contradiction]:
    """Returns the contradictions that are plans. Raises `SettingsContradict` for others, and `StoreUnavailable`."""
    contradictions = await find_contradictions(settings, ledger, artefacts, samples)
    if refused := [each for each in contradictions if not each.is_plan]:
        raise SettingsContradict(problem="\n".join(("", *(f"  {each}" for each in refused))))
    return contradictions


def compare(settings: Settings, served: ServedVersion) -> list[Contradiction]:
    """Compares the settings with what serves and what is planned. Reads files; call it from a thread."""
    made = served.origin
    if made is None:
        return []
    contradictions = [_encoder(settings, served, made)]
    if not made.choice.is_none:
        contradictions += [check(settings, served, made) for check in (_weights, _precision)]
    # Most are about an encoder: where there is none they contradict nothing.
    for name in _OF_WORDS if made.choice.is_none else _COMPARED:
        asked, there = getattr(settings, name), getattr(made.choice, name)
        planned = served.planned is not None and getattr(served.planned, name) == asked
        if name in settings.model_fields_set and asked != there and not planned:
            sentence = f"{PREFIX}{name.upper()} asks for {asked!r}, version {served.version} was made with {there!r}."
            contradictions.append(Contradiction(name, sentence, _remedy(made.choice.encoder, name)))
    return [each for each in contradictions if each is not None]


def fast_answers_planned(settings: Settings, served: ServedVersion) -> list[Contradiction]:
    """Compares what fast answers may cost. `off` contradicts nothing: no app that is told so gives any."""
    asked = settings.fast_loss
    others = sorted({loss for loss in served.losses.values() if loss != asked})
    if "fast_answers_loss" not in settings.model_fields_set or asked is None or not others:
        return []
    sentence = f"{PREFIX}FAST_ANSWERS_LOSS asks for {asked}, version {served.version} was made for {others[0]}."
    return [Contradiction("fast_answers_loss", sentence, "The next version brings it.", is_plan=True)]


def wanted_choice(settings: Settings, made: EncoderChoice | None, encoder: str, prefix: str | None) -> EncoderChoice:
    """Returns what `pawl encoder set` asks for: the encoder, the settings that were given, else what serves (`made`).

    A prefix belongs to its encoder, so another encoder starts without one. Raises `EncoderRejected` where neither head
    would be left.
    """
    asked = replace(settings.encoder_choice, encoder=encoder)
    if made is not None:
        kept = {each.name for each in fields(EncoderChoice)} - settings.model_fields_set - {"encoder", "encoder_sha256"}
        kept -= {"precision"} if "compression" in settings.model_fields_set else set()
        kept -= {"encoder_prefix"} if encoder != made.encoder else set()
        asked = replace(asked, **{name: getattr(made, name) for name in kept})
    asked = asked if prefix is None else replace(asked, encoder_prefix=prefix)
    lexical_for(asked)
    return asked


def _encoder(settings: Settings, served: ServedVersion, made: EncoderOrigin) -> Contradiction | None:
    asked = settings.encoder
    planned = served.planned is not None and served.planned.encoder == asked
    if "encoder" not in settings.model_fields_set or planned:
        return None
    try:
        # From this machine alone: the check runs at every start, which must not wait for the hub.
        digest = find_encoder(asked, None, here_only=True).digest()
        why = "its folder has other contents than it had then" if asked == made.choice.encoder else ""
    except EncoderRejected as error:
        if asked == made.choice.encoder:
            return None  # the published files were needed once; the version has a copy
        digest, why = "", str(error.details["problem"])
    if digest == made.source_digest:
        return None  # the same files under another name
    sentence = f"{PREFIX}ENCODER asks for {asked}"
    sentence += f" ({why})" if why else ""
    sentence += f", version {served.version} serves {made.choice.encoder} ({made.source_digest[:12]})."
    return Contradiction("encoder", sentence, _remedy(asked, "encoder") + _tried(served, asked))


def _tried(served: ServedVersion, asked: str) -> str:
    last = served.request
    if last is None or last.choice.encoder != asked or last.state is not EncoderRequestState.REFUSED:
        return ""
    return f" It was tried and refused ({last.problem}); `--accept REASON` takes it all the same."


def _weights(settings: Settings, served: ServedVersion, made: EncoderOrigin) -> Contradiction | None:
    asked = settings.encoder_sha256
    known = {made.weights_sha256, None if served.planned is None else served.planned.encoder_sha256}
    if asked is None or made.weights_sha256 is None or asked in known:
        return None
    sentence = f"{PREFIX}ENCODER_SHA256 asks for weights {asked[:12]}, version {served.version} was made with "
    sentence += f"{made.choice.encoder}, whose weights are {made.weights_sha256[:12]}."
    return Contradiction("encoder_sha256", sentence, _remedy("ENCODER", "encoder_sha256"))


def _precision(settings: Settings, served: ServedVersion, made: EncoderOrigin) -> Contradiction | None:
    asked, there = settings.precision, made.choice.precision
    planned = served.planned is not None and served.planned.precision == asked
    if "compression" not in settings.model_fields_set or asked == there or planned:
        return None
    sentence = f"{PREFIX}COMPRESSION asks for {asked}, version {served.version} serves {there}."
    remedy = (
        f"The next consolidation brings it (`pawl consolidate`); `pawl encoder set {made.choice.encoder}` does so at "
        "once, without what consolidations have trained."
    )
    return Contradiction("compression", sentence, remedy, is_plan=True)


def _remedy(encoder: str, name: str) -> str:
    return (
        f"To change it: `pawl encoder set {encoder}` embeds all samples anew, judges the result against what serves, "
        f"and publishes it. To keep what serves: unset {PREFIX}{name.upper()}."
    )


def _splits(settings: Settings, heldout: str | None, train: str | None) -> Sequence[Contradiction]:
    """Compares the held-out fraction with the stored split.

    A text is held out where the first 64 bits of its digest, as a fraction of 2^64, are below the held-out fraction.
    `heldout` is the largest digest that was held out, `train` the smallest that was not.
    """
    asked, name = settings.heldout_fraction, f"{PREFIX}HELDOUT_FRACTION"
    low = int(heldout[:16], 16) / 2.0**64 if heldout is not None else 0.0
    high = int(train[:16], 16) / 2.0**64 if train is not None else 1.0
    if (heldout is None or low < asked) and (train is None or asked <= high):
        return []
    sentence = f"{name} is {asked}, the stored samples were split at a fraction between {low:.4f} and {high:.4f}."
    remedy = f"A text that is held out stays held out: set {name} to what it was, or import into another home."
    return [Contradiction("heldout_fraction", sentence, remedy)]
