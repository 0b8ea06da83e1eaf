"""Opens an encoder on the fastest of the backends whose numbers are proven."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import structlog

from pawl.classifier.encoders.choice.comparison import Comparison, OthersLoad, compare, is_idle
from pawl.classifier.encoders.choice.proof import Proof, ReferenceEmbeddings, prove
from pawl.classifier.encoders.choice.record import (
    BackendRecord,
    Recorded,
    changing,
    machine,
    recorded_now,
    with_versions,
)
from pawl.classifier.encoders.choice.serving_encoder import BackendEncoder, ServingEncoder
from pawl.classifier.encoders.no_encoder import NoEncoder
from pawl.classifier.encoders.spec import CONFIG_FILE, SPEC_FILE, EncoderSpec
from pawl.domain.errors import ArtefactCorrupt, EncoderRejected, PawlError, SettingInvalid
from pawl.installed import install_command
from pawl.settings import Settings

log = structlog.get_logger("backends")

Backend = Literal["auto", "onnxruntime", "openvino", "torch"]
_EXTRAS = {"onnxruntime": "worker", "openvino": "openvino", "torch": "worker"}
_NVIDIA = Path("/proc/driver/nvidia/version")  # asked instead of torch, which takes seconds to import
_STALE_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Backends:
    """Opens encoder folders.

    choice    `auto` takes the fastest backend that is installed and proven; a name pins one of them.
    threads   Batches at a time, each on one thread; 0 means one for each core that this process may use.
    record    The file that keeps what was proven and measured; without it, this process remembers.
    """

    choice: Backend = "onnxruntime"
    threads: int = 0
    record: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Backends:
        """Builds it from the settings. Raises `SettingInvalid` where the library they name is not installed."""
        if settings.backend != "auto" and find_spec(settings.backend) is None:
            problem = f"it is not installed; `{install_command(_EXTRAS[settings.backend])}`, or take `auto`"
            raise SettingInvalid(name="PAWL_BACKEND", value=settings.backend, problem=problem)
        return cls(settings.backend, settings.threads, settings.home_path / "backends.json")

    def open(self, folder: Path, digest: str) -> ServingEncoder | NoEncoder:
        """Opens the encoder in a verified folder; `NoEncoder` for a folder that says that there is none.

        Raises:
            ArtefactCorrupt: A file is missing or odd.
            EncoderRejected: No backend gives the numbers of transformers.
        """
        if EncoderSpec.from_file(folder / SPEC_FILE).is_none:
            return NoEncoder(digest)
        with changing(self.record) as record:
            opening = _Opening(self, folder, digest, record)
            wanted, others = self._candidates(opening.spec)
            # Others one by one and only until one is proven: each is opened for it, which for torch takes seconds.
            proven = opening.proven(wanted) or next(filter(None, (opening.proven([name]) for name in others)), [])
            if not proven:
                raise opening.refused()
            chosen = proven[0] if len(proven) == 1 else self._fastest(opening, proven)
            encoder = opening.encoder(chosen)
        if self.choice not in ("auto", chosen):
            why = opening.refusals() or "int8 weights run on ONNX Runtime alone"
            log.warning("pinned_backend_does_not_serve", asked=self.choice, serves=chosen, why=why)
        last = ["torch"] if find_spec("torch") is not None else []  # float32, near enough to int8 to stand in for it
        rest = [name for name in dict.fromkeys((*proven, *wanted, *others, *last)) if name != chosen]
        return ServingEncoder(chosen, encoder, [(name, self._opener(name, folder, digest)) for name in rest])

    def library(self, folder: Path, digest: str) -> str:
        """Returns the name of the backend that `open` takes. Raises as `open` does."""
        return self.open(folder, digest).library

    def review(self, folder: Path, digest: str, stop: Callable[[], bool]) -> Comparison | None:
        """Measures again a choice that is doubtful or old, if the machine is idle; None where nothing was measured.

        An encoder that is open keeps its backend. The next one that is opened takes the new choice.
        """
        proofs, kept = self.known(folder, digest)
        able = [name for name, proof in proofs.items() if not proof.result.problem]
        if len(able) < 2 or (kept is not None and not is_due(kept)) or not is_idle() or stop():
            return None
        others = OthersLoad()
        with changing(self.record) as record:
            opening = _Opening(self, folder, digest, record)
            names = opening.proven(self._candidates(opening.spec)[0])
            if len(names) < 2:
                return None
            encoders = {name: opening.encoder(name) for name in names}
            comparison = compare(encoders, lambda: stop() or others.is_felt)
            # A result as doubtful as the one that is kept replaces nothing.
            if not comparison.doubt or kept is None:
                record.choices[self._choice_key(folder, names)] = recorded_now(comparison, machine(self.threads))
        log.info("backend_measured_again", chosen=comparison.chosen, ratio=comparison.ratio, doubt=comparison.doubt)
        return comparison

    def known(self, folder: Path, digest: str) -> tuple[dict[str, Recorded[Proof]], Recorded[Comparison] | None]:
        """Reads the record of an encoder: each backend's proof, and the choice among the proven ones."""
        spec, record = EncoderSpec.from_file(folder / SPEC_FILE), BackendRecord.read(self.record)
        if spec.is_none:
            return {}, None
        wanted, others = self._candidates(spec)
        proofs = {name: record.proofs.get(self.proof_key(name, digest)) for name in (*wanted, *others)}
        known = {name: proof for name, proof in proofs.items() if proof is not None}
        able = [name for name in wanted if name in known and not known[name].result.problem]
        return known, record.choices.get(self._choice_key(folder, able))

    def _candidates(self, spec: EncoderSpec) -> tuple[list[str], list[str]]:
        """Returns the backends to choose from, and those that stand in for them, in order.

        int8 weights run on ONNX Runtime alone.
        """
        installed = [name for name in ("onnxruntime", "openvino", "torch") if find_spec(name) is not None]
        if spec.precision == "int8":
            return ["onnxruntime"], []
        if self.choice != "auto":
            wanted = [str(self.choice)]
        else:  # torch pays only beside a GPU: it takes seconds to import, and 600 MB
            wanted = [name for name in installed if name != "torch" or _NVIDIA.exists()]
        return wanted, [name for name in installed if name not in wanted]

    def _fastest(self, opening: _Opening, names: Sequence[str]) -> str:
        """Returns the backend that the record says is faster; measures where it says nothing."""
        choices, key = opening.record.choices, self._choice_key(opening.folder, names)
        if key not in choices:
            comparison = compare({name: opening.encoder(name) for name in names}, lambda: False)
            choices[key] = recorded_now(comparison, machine(self.threads))
            log.info(
                "backend_measured",
                chosen=comparison.chosen,
                ratio=comparison.ratio,
                rates=comparison.rates,
                doubt=comparison.doubt,
            )
        return choices[key].result.chosen

    def _opener(self, name: str, folder: Path, digest: str) -> Callable[[], BackendEncoder]:
        def opened() -> BackendEncoder:
            with changing(self.record) as record:
                opening = _Opening(self, folder, digest, record)
                if not opening.proven([name]):
                    raise opening.refused()
                return opening.encoder(name)

        return opened

    def proof_key(self, name: str, digest: str) -> str:
        """Returns the key of a proof in the record: one library's version, on this machine, for one encoder."""
        return " | ".join([machine(self.threads), *with_versions([name]), digest])

    def _choice_key(self, folder: Path, names: Sequence[str]) -> str:
        """Returns the key of a choice: machine, libraries' versions and the encoder's shape, not its weights."""
        shape = hashlib.sha256((folder / CONFIG_FILE).read_bytes() + (folder / SPEC_FILE).read_bytes()).hexdigest()
        return " | ".join([machine(self.threads), *with_versions(names), shape[:16]])


def is_due(kept: Recorded[Comparison]) -> bool:
    """Whether a choice is to be measured again when the machine is idle."""
    return bool(kept.result.doubt) or kept.age_days > _STALE_DAYS


class _Opening:
    """One encoder while it is opened: its backends that were opened, and the problems of those that were refused."""

    def __init__(self, backends: Backends, folder: Path, digest: str, record: BackendRecord) -> None:
        self.folder = folder
        self.record = record
        self.spec = EncoderSpec.from_file(folder / SPEC_FILE)
        self._backends = backends
        self._digest = digest
        self._reference = ReferenceEmbeddings.read(folder)
        self._opened: dict[str, BackendEncoder] = {}
        self._problems: dict[str, str] = {}
        self._damage: ArtefactCorrupt | None = None

    def encoder(self, name: str) -> BackendEncoder:
        """Opens a backend, once. Raises `ArtefactCorrupt`."""
        if name not in self._opened:
            self._opened[name] = _open(name, self.folder, self._digest, self._backends.threads)
        return self._opened[name]

    def proven(self, names: Sequence[str]) -> list[str]:
        """Returns the backends whose numbers are right, by the record or by a proof that is made now.

        A backend that was refused is tried again at each start, because the reason may have been a lack of memory.
        """
        good = []
        for name in names:
            key = self._backends.proof_key(name, self._digest)
            kept = self.record.proofs.get(key)
            if kept is None or kept.result.problem:
                proof = self._prove(name)
                self.record.proofs[key] = kept = recorded_now(proof, machine(self._backends.threads))
            if kept.result.problem:
                self._problems[name] = kept.result.problem
                self._opened.pop(name, None)  # frees its memory
            else:
                good.append(name)
        return good

    def refusals(self) -> str:
        """Says which backends may not serve, and why."""
        return "; ".join(f"{name}: {problem}" for name, problem in self._problems.items())

    def refused(self) -> PawlError:
        """Returns the error to raise where no backend may serve."""
        if self._damage is not None:
            return self._damage
        advice = ". Take PAWL_COMPRESSION=none" if self.spec.precision == "int8" else ""
        return EncoderRejected(path=self.folder, problem=f"no backend gives its numbers: {self.refusals()}{advice}")

    def _prove(self, name: str) -> Proof:
        if name != "torch" and self._reference.export_problem:
            return Proof(0.0, self._reference.export_problem)
        try:
            proof = prove(self.encoder(name), self._reference, self.spec)
        except ArtefactCorrupt as error:
            self._damage = error
            return Proof(0.0, str(error))
        except (ImportError, EncoderRejected) as error:
            return Proof(0.0, str(error))
        if proof.problem:
            log.warning("backend_refused", library=name, encoder=self._digest[:16], problem=proof.problem)
        return proof


def _open(name: str, folder: Path, digest: str, threads: int) -> BackendEncoder:
    if name == "openvino":
        from pawl.classifier.encoders.backends.openvino import OpenVinoEncoder

        return OpenVinoEncoder(folder, threads=threads, digest=digest)
    if name == "torch":
        from pawl.classifier.encoders.backends.torch import TorchEncoder

        return TorchEncoder.for_serving(folder, threads=threads, digest=digest)
    # Here and not above: a process without an encoder has no use for it, and starts sooner and smaller.
    from pawl.classifier.encoders.backends.onnx import OnnxEncoder

    return OnnxEncoder(folder, threads=threads, digest=digest)
