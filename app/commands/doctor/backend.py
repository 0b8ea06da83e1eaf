"""Check of the library that runs the encoder: which one was chosen, why, how sure that is, and since when."""

from __future__ import annotations

import asyncio

from app.commands.console.terminal import ago
from app.commands.doctor.findings import CheckResult, Finding, ok, warn
from app.commands.home.stores import HomeStores
from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.choice.comparison import Comparison
from pawl.classifier.encoders.choice.proof import Proof
from pawl.classifier.encoders.choice.record import Recorded
from pawl.classifier.encoders.spec import NO_ENCODER_DIGEST
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.settings import Settings

_PART = "backend"


async def check_backend(settings: Settings, stores: HomeStores) -> Finding:
    """Reads what this machine recorded about backends for the live version's encoder. It measures nothing."""
    backends, live = Backends.of(settings), await stores.ledger.live()
    if live is None:
        detail = (
            f"PAWL_BACKEND={settings.backend}; proven, and measured where there is a choice, with the first version"
        )
        return ok(_PART, detail)
    folder = FolderArtefactStore(settings.artefacts_path).path(live.number) / ENCODER_FOLDER
    if not folder.is_dir():
        return warn(_PART, f"unknown: {folder} is not there")
    if live.encoder_digest == NO_ENCODER_DIGEST:
        return ok(_PART, "there is no encoder to run")
    proofs, choice = await asyncio.to_thread(backends.known, folder, live.encoder_digest)
    return describe(settings.backend, proofs, choice)


def describe(pinned: str, proofs: dict[str, Recorded[Proof]], choice: Recorded[Comparison] | None) -> Finding:
    """The finding. `pinned` is the setting; the proofs are in the order in which backends are preferred."""
    able = [name for name, proof in proofs.items() if not proof.result.problem]
    if not able:
        detail = _refused(proofs) or "no backend has opened this encoder on this machine yet, with so many threads"
        return Finding(
            _PART, CheckResult.FAIL if proofs else CheckResult.WARN, detail, "A start of `pawl up` proves them."
        )
    chosen = choice.result.chosen if choice is not None else able[0]
    if pinned != "auto":
        chosen, choice = pinned if pinned in able else able[0], None
    parts = [f"{chosen}, {_why(pinned, chosen, able, choice)}"]
    parts += [f"{name} gives the numbers of transformers (cosine {proofs[name].result.cosine:.5f})" for name in able]
    parts += [_refused(proofs)] if _refused(proofs) else []
    detail = "; ".join(parts)
    if pinned not in ("auto", chosen):
        return warn(_PART, detail, f"Set PAWL_BACKEND to auto or {chosen}: {pinned} does not serve.")
    if choice is not None and choice.result.doubt:
        remedy = f"It is measured again when the machine is idle; PAWL_BACKEND={chosen} would pin it."
        return warn(_PART, f"{detail}; doubtful: {choice.result.doubt}", remedy)
    if _refused(proofs):
        return warn(_PART, detail, "Another one serves; nothing needs to be done.")
    return ok(_PART, detail)


def _why(pinned: str, chosen: str, able: list[str], choice: Recorded[Comparison] | None) -> str:
    if pinned == chosen:
        return "pinned by PAWL_BACKEND"
    if choice is None:
        return "the only one that may serve" if len(able) == 1 else "not measured yet"
    comparison = choice.result
    sure = (
        f"{comparison.ratio:.2f} times as fast as the next one, between {comparison.low:.2f} and {comparison.high:.2f}"
    )
    return f"{sure} ({comparison.rounds} rounds {ago(choice.at)} ago on {choice.machine})"


def _refused(proofs: dict[str, Recorded[Proof]]) -> str:
    problems = [
        f"{name} may not serve: {proof.result.problem}" for name, proof in proofs.items() if proof.result.problem
    ]
    return "; ".join(problems)
