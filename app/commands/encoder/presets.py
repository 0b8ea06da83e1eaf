"""`pawl encoder list`: the encoders that have a name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from app.commands.console.terminal import out, print_json, print_line
from pawl.classifier.encoders.retrieval import locate
from pawl.domain.encoder_presets import PRESETS, EncoderPreset
from pawl.domain.encoders import NO_ENCODER
from pawl.domain.errors import EncoderRejected


def list_presets(*, as_json: bool) -> None:
    """Prints the table; `here` tells where this machine has the files of one already."""
    folders = {preset.name: _here(preset) for preset in PRESETS.values()}
    if as_json:
        rows = [
            asdict(preset) | {"folder": None if folders[name] is None else str(folders[name])}
            for name, preset in PRESETS.items()
        ]
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "encoder", "languages", "embedding", "tokens", "weights", "here", "take it for"):
        table.add_column(title)
    for name, preset in PRESETS.items():
        table.add_row(
            name,
            preset.hub_id,
            preset.languages,
            f"{preset.layers} layers of {preset.dimension}",
            str(preset.max_tokens),
            f"{preset.weights_bytes / 1e6:.0f} MB",
            "no" if folders[name] is None else "yes",
            preset.use,
        )
    table.add_row(NO_ENCODER, "", "any", "", "", "", "yes", "words alone: the least memory, starts at once")
    out.print(table)
    print_line("A folder with safetensors weights or any other hub id may stand where a name stands. docs/encoders.md")


def _here(preset: EncoderPreset) -> Path | None:
    try:
        return locate(preset.name, here_only=True)
    except EncoderRejected:
        return None
