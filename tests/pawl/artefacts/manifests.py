"""Small manifests for tests of the store, which does not look inside the files."""

from pathlib import Path

from pawl.domain.manifest import Manifest
from pawl.domain.versions import HeadInfo, LexicalInfo, VersionKind

HEADS = {
    "default": HeadInfo("0" * 64, ("ja", "nein", "ÿ"), 0.1),
    "mood": HeadInfo("1" * 64, ("gut",), 0.1, LexicalInfo("2" * 64, 4096, 0.2, 0.3, 0.75, 0.25, 0.5, 0.42, 0.0)),
    "tone": HeadInfo("3" * 64, ("laut",), 0.1, LexicalInfo("4" * 64, 512, 0.2, 1.0, 0.0, 1.0)),
}
FILES: dict[str, Path | bytes] = {"encoder/model.onnx": b"weights" * 999, "heads/a.safetensors": b"head", "empty": b""}


def manifest(number: int, **settings: object) -> Manifest:
    kind = VersionKind.HEAD
    return Manifest(number, number - 1 or None, kind, "e" * 64, HEADS, settings, watermark=7, libraries={"numpy": "2"})


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a version folder, but for the manifest."""
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    files.pop("manifest.json", None)
    return files
