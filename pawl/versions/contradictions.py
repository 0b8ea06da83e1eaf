"""Settings that contradict what a home was made with: found here, told everywhere, ignored nowhere.

Of what decides the features, only a setting that somebody gave can contradict: one that is not set asks for nothing,
and what serves stays. Another encoder that was asked for and waits for the learner is a plan, not a contradiction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from pawl.classifier.encoders.source import find_encoder
from pawl.domain.encoders import EncoderChoice, EncoderOrigin, EncoderRequest, EncoderRequestState
from pawl.domain.errors import ArtefactCorrupt, EncoderRejected, SettingsContradict
from pawl.ports import ArtefactStore, SampleStore, VersionLedger
from pawl.settings import PREFIX, Settings

_ONE_BY_ONE = ("encoder_prefix", "max_tokens", "pooled_layers", "random_features", "seed")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A setting, what it asks for, and what there is. `remedy` is what to do where asking for it is meant.

    `is_plan`: it takes effect by itself later, so that it is only told.
    """

    setting: str
    sentence: str
    remedy: str
    is_plan: bool = False

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


@dataclass(frozen=True, slots=True)
class Serving:
    """The live version's number, what it was made with, and the newest request for another encoder."""

    version: int
    origin: EncoderOrigin | None
    request: EncoderRequest | None

    @property
    def planned(self) -> EncoderChoice | None:
        """What the learner is about to try."""
        waits = self.request is not None and self.request.state is EncoderRequestState.PENDING
        return self.request.choice if self.request is not None and waits else None


async def serving(ledger: VersionLedger, artefacts: ArtefactStore) -> Serving | None:
    """What serves, by the store; None where nothing does yet. Raises `StoreUnavailable`."""
    live = await ledger.live()
    if live is None:
        return None
    try:
        manifest = await asyncio.to_thread(artefacts.manifest, live.number)
    except ArtefactCorrupt:  # told and healed elsewhere; nothing is known of what it was made with
        return Serving(live.number, None, await ledger.last_encoder_request())
    return Serving(live.number, EncoderOrigin.of(manifest.settings), await ledger.last_encoder_request())


async def find_contradictions(
    settings: Settings, ledger: VersionLedger, artefacts: ArtefactStore, samples: SampleStore
) -> list[Contradiction]:
    """All of a home. Raises `StoreUnavailable`."""
    found = await serving(ledger, artefacts)
    told = [] if found is None else await asyncio.to_thread(compare, settings, found)
    return [*told, *_splits(settings, *await samples.split_bounds())]


async def refuse_contradictions(
    settings: Settings, ledger: VersionLedger, artefacts: ArtefactStore, samples: SampleStore
) -> list[Contradiction]:
    """Raises `SettingsContradict` with all that cannot be; returns what is only to be told.

    Raises `StoreUnavailable`.
    """
    found = await find_contradictions(settings, ledger, artefacts, samples)
    if refused := [each for each in found if not each.is_plan]:
        raise SettingsContradict(problem="\n".join(("", *(f"  {each}" for each in refused))))
    return found


def compare(settings: Settings, found: Serving) -> list[Contradiction]:
    """What the settings ask for, held against what serves and what is planned. Reads files; call it from a thread."""
    made = found.origin
    if made is None:
        return []
    told = [_encoder(settings, found, made), _weights(settings, found, made), _precision(settings, found, made)]
    for name in _ONE_BY_ONE:
        asked, there = getattr(settings, name), getattr(made.choice, name)
        planned = found.planned is not None and getattr(found.planned, name) == asked
        if name in settings.model_fields_set and asked != there and not planned:
            sentence = f"{PREFIX}{name.upper()} asks for {asked!r}, version {found.version} was made with {there!r}."
            told.append(Contradiction(name, sentence, _remedy(made.choice.encoder, name)))
    return [each for each in told if each is not None]


def wanted_choice(settings: Settings, made: EncoderChoice | None, encoder: str, prefix: str | None) -> EncoderChoice:
    """What `pawl encoder set` asks for: the encoder, the settings that were given, else what there is.

    A prefix belongs to its encoder: another one starts without.
    """
    asked = replace(settings.encoder_choice, encoder=encoder)
    if made is not None:
        kept = {each.name for each in fields(EncoderChoice)} - settings.model_fields_set - {"encoder", "encoder_sha256"}
        kept -= {"precision"} if "compression" in settings.model_fields_set else set()
        kept -= {"encoder_prefix"} if encoder != made.encoder else set()
        asked = replace(asked, **{name: getattr(made, name) for name in kept})
    return asked if prefix is None else replace(asked, encoder_prefix=prefix)


def _encoder(settings: Settings, found: Serving, made: EncoderOrigin) -> Contradiction | None:
    asked = settings.encoder
    planned = found.planned is not None and found.planned.encoder == asked
    if "encoder" not in settings.model_fields_set or planned:
        return None
    try:
        digest = find_encoder(asked, None, here_only=True).digest()
        why = "its folder has other contents than it had then" if asked == made.choice.encoder else ""
    except EncoderRejected as error:
        if asked == made.choice.encoder:
            return None  # it was needed once; the version has all of it
        digest, why = "", str(error.details["problem"])
    if digest == made.source_digest:
        return None  # the same one under another name
    sentence = f"{PREFIX}ENCODER asks for {asked}"
    sentence += f" ({why})" if why else ""
    sentence += f", version {found.version} serves {made.choice.encoder} ({made.source_digest[:12]})."
    return Contradiction("encoder", sentence, _remedy(asked, "encoder") + _tried(found, asked))


def _tried(found: Serving, asked: str) -> str:
    last = found.request
    if last is None or last.choice.encoder != asked or last.state is not EncoderRequestState.REFUSED:
        return ""
    return f" It was tried and refused ({last.problem}); `--accept REASON` takes it all the same."


def _weights(settings: Settings, found: Serving, made: EncoderOrigin) -> Contradiction | None:
    asked = settings.encoder_sha256
    known = {made.weights_sha256, None if found.planned is None else found.planned.encoder_sha256}
    if asked is None or made.weights_sha256 is None or asked in known:
        return None
    sentence = f"{PREFIX}ENCODER_SHA256 asks for weights {asked[:12]}, version {found.version} was made with "
    sentence += f"{made.choice.encoder}, whose weights are {made.weights_sha256[:12]}."
    return Contradiction("encoder_sha256", sentence, _remedy("ENCODER", "encoder_sha256"))


def _precision(settings: Settings, found: Serving, made: EncoderOrigin) -> Contradiction | None:
    asked, there = settings.precision, made.choice.precision
    planned = found.planned is not None and found.planned.precision == asked
    if "compression" not in settings.model_fields_set or asked == there or planned:
        return None
    sentence = f"{PREFIX}COMPRESSION asks for {asked}, version {found.version} serves {there}."
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
    """Digests of texts are the places of their split: the largest one held out, the smallest one trained on."""
    asked, name = settings.heldout_fraction, f"{PREFIX}HELDOUT_FRACTION"
    low = int(heldout[:16], 16) / 2.0**64 if heldout is not None else 0.0
    high = int(train[:16], 16) / 2.0**64 if train is not None else 1.0
    if (heldout is None or low < asked) and (train is None or asked <= high):
        return []
    sentence = f"{name} is {asked}, the stored samples were split at a fraction between {low:.4f} and {high:.4f}."
    remedy = f"A text that is held out stays held out: set {name} to what it was, or import into another home."
    return [Contradiction("heldout_fraction", sentence, remedy)]
