"""Small manifests for tests of the store, which does not look inside the files."""

from pathlib import Path

from pawl.domain.manifest import Manifest
from pawl.domain.versions import HeadInfo, VersionKind

HEADS = {"default": HeadInfo("0" * 64, ("ja", "nein", "ÿ"), 0.1)}
FILES: dict[str, Path | bytes] = {"encoder/model.onnx": b"weights" * 999, "heads/a.safetensors": b"head", "empty": b""}


def manifest(number: int, **settings: object) -> Manifest:
    kind = VersionKind.HEAD
    return Manifest(number, number - 1 or None, kind, "e" * 64, HEADS, settings, watermark=7, libraries={"numpy": "2"})


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a version folder, but for the manifest."""
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    files.pop("manifest.json", None)
    return files
