"""Which library runs the encoder: chosen by the setting or, on this machine, by a short measurement that is kept."""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import structlog

from app.core.classifier.encoder_folder import CONFIG_FILE, SPEC_FILE, EncoderSpec
from app.core.classifier.onnx_encoder import OnnxEncoder
from app.core.domain.errors import SettingInvalid
from app.core.ports import Encoder
from app.core.settings import Settings
from app.core.threads import thread_count

log = structlog.get_logger("backends")

Backend = Literal["auto", "onnxruntime", "openvino", "torch"]
_EXTRAS = {"onnxruntime": "worker", "openvino": "openvino", "torch": "worker"}
_TEXTS = tuple(
    f"the {n}th card I asked for has {'still ' * (n % 9)}not come, and nobody can say when it will" for n in range(16)
)
_SECONDS = 0.25
_NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Backends:
    """Opens encoder folders.

    choice          `auto` measures those that are installed and keeps the faster one, for each shape of encoder.
    threads         Batches at a time, each on one thread; 0 means one for each core this process may use.
    measurements    Where `auto` keeps what it measured; without it, it measures each time.
    """

    choice: Backend = "onnxruntime"
    threads: int = 0
    measurements: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Backends:
        """As the settings say. Raises `SettingInvalid` where the library that is asked for is not installed."""
        if settings.backend != "auto" and find_spec(settings.backend) is None:
            problem = f"it is not installed; `pip install 'pawl-server[{_EXTRAS[settings.backend]}]'`, or take `auto`"
            raise SettingInvalid(name="PAWL_BACKEND", value=settings.backend, problem=problem)
        return cls(settings.backend, settings.threads, settings.home_path / "backends.json")

    def open(self, folder: Path, digest: str) -> Encoder:
        """The encoder in a verified folder. One of int8 weights is always run by ONNX Runtime: no other knows them.

        Raises `ArtefactCorrupt` for files that are missing or odd.
        """
        return self._open(self.library(folder, digest), folder, digest)

    def library(self, folder: Path, digest: str) -> str:
        """The name of the library that runs the encoder in a verified folder. Raises as `open`."""
        candidates = _installed() if self.choice == "auto" else [str(self.choice)]
        if EncoderSpec.from_file(folder / SPEC_FILE).precision == "int8":
            candidates = ["onnxruntime"]
        return candidates[0] if len(candidates) == 1 else self._fastest(candidates, folder, digest)

    def _open(self, name: str, folder: Path, digest: str) -> Encoder:
        if name == "openvino":
            from app.core.classifier.openvino_encoder import OpenVinoEncoder

            return OpenVinoEncoder(folder, threads=self.threads, digest=digest)
        if name == "torch":
            from app.core.classifier.torch_encoder import TorchEncoder

            return TorchEncoder.for_serving(folder, threads=self.threads, digest=digest)
        return OnnxEncoder(folder, threads=self.threads, digest=digest)

    def _fastest(self, candidates: list[str], folder: Path, digest: str) -> str:
        """The backend that was faster when this machine met such an encoder first."""

        def rates() -> dict[str, float]:
            return {name: measure(self._open(name, folder, digest)) for name in candidates}

        if self.measurements is None:
            return _best(rates())
        key = _key(candidates, folder, self.threads)
        self.measurements.parent.mkdir(parents=True, exist_ok=True)
        # App and learner start together: the second waits for the first and takes its choice. Measured side by side
        # both would be wrong, and they might choose differently.
        with self.measurements.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _read(self.measurements)
            if key not in known:
                known[key] = rates()
                unfinished = self.measurements.with_suffix(".unfinished")
                unfinished.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
                unfinished.replace(self.measurements)
                log.info("backend_measured", chosen=_best(known[key]), texts_per_s=known[key])
            return _best(known[key])


def measure(encoder: Encoder, seconds: float = _SECONDS, now: Callable[[], float] = time.perf_counter) -> float:
    """Texts/s: the geometric mean of one text at a time and sixteen, so that neither is given up for the other."""
    encoder.encode(_TEXTS)
    rates = []
    for size in (1, len(_TEXTS)):
        done, begun = 0, now()
        while done == 0 or now() - begun < seconds:
            start = done % len(_TEXTS)
            done += len(encoder.encode(_TEXTS[start : start + size]))
        rates.append(done / (now() - begun))
    return float(round((rates[0] * rates[1]) ** 0.5, 1))


def _installed() -> list[str]:
    """Those that are installed and may pay: torch only beside a GPU, since it takes seconds to import and 600 MB."""
    found = [name for name in ("onnxruntime", "openvino") if find_spec(name) is not None]
    return [*found, "torch"] if _NVIDIA.exists() and find_spec("torch") is not None else found


def _best(rates: dict[str, float]) -> str:
    return max(rates, key=lambda name: rates[name])


def _read(path: Path) -> dict[str, dict[str, float]]:
    """What was measured; nothing where the file is missing or odd, which only costs another measurement."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(rates, dict) and rates for rates in found.values()):
            return found
    return {}


def _key(candidates: list[str], folder: Path, threads: int) -> str:
    """Of everything the speed depends on: the machine, the versions, the encoder's shape; not its weights."""
    parts = [platform.machine(), _processor(), f"{thread_count(threads)} x 1"]  # batches at a time, threads of each
    parts += [f"{name} {_version(name)}" for name in candidates]
    shape = hashlib.sha256((folder / CONFIG_FILE).read_bytes() + (folder / SPEC_FILE).read_bytes()).hexdigest()
    return " | ".join(str(part) for part in (*parts, shape[:16]))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "?"
