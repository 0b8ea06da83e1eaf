"""What `pawl doctor` says of the backend: which, why, how sure, on which machine, and what may not serve."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.commands.doctor.backend import check_backend, describe
from app.commands.doctor.findings import CheckResult
from app.commands.home.stores import open_stores
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.choice.comparison import Comparison
from pawl.classifier.encoders.choice.proof import Proof
from pawl.classifier.encoders.choice.record import Recorded
from pawl.domain.manifest import ENCODER_FOLDER
from tests.processes import Installer

_NOW = datetime.now(UTC)
_RIGHT, _WRONG = Proof(0.99995), Proof(0.15, "on a text alone its embedding is not that of transformers: cosine 0.15")


def _proofs(**found: Proof) -> dict[str, Recorded[Proof]]:
    return {name: Recorded(proof, "a machine", _NOW) for name, proof in found.items()}


def _choice(doubt: str = "") -> Recorded[Comparison]:
    rates = {"onnxruntime": 138.0, "openvino": 277.0}
    return Recorded(Comparison("openvino", rates, 2.01, 1.95, 2.07, 6, doubt), "EPYC, x86_64, 2 threads", _NOW)


def test_it_says_what_was_chosen_why_how_sure_and_where() -> None:
    found = describe("auto", _proofs(onnxruntime=_RIGHT, openvino=_RIGHT), _choice())
    assert found.outcome is CheckResult.OK
    assert "openvino, 2.01 times as fast as the next one, between 1.95 and 2.07 (6 rounds" in found.detail
    assert "on EPYC, x86_64, 2 threads" in found.detail
    assert "cosine 0.99995" in found.detail


def test_a_doubtful_choice_says_what_is_wrong_with_it_and_how_to_pin_it() -> None:
    found = describe("auto", _proofs(onnxruntime=_RIGHT, openvino=_RIGHT), _choice("other processes were busy"))
    assert found.outcome is CheckResult.WARN
    assert "doubtful: other processes were busy" in found.detail
    assert "PAWL_BACKEND=openvino" in found.remedy


@pytest.mark.parametrize("pinned", ["onnxruntime", "openvino"])
def test_a_pinned_one_says_so(pinned: str) -> None:
    found = describe(pinned, _proofs(onnxruntime=_RIGHT, openvino=_RIGHT), _choice())
    assert found.outcome is CheckResult.OK
    assert found.detail.startswith(f"{pinned}, pinned by PAWL_BACKEND;")


def test_a_pinned_one_that_may_not_serve_is_named_with_the_reason() -> None:
    found = describe("openvino", _proofs(openvino=_WRONG, onnxruntime=_RIGHT), None)
    assert found.outcome is CheckResult.WARN
    assert found.detail.startswith("onnxruntime, the only one that may serve;")
    assert "openvino may not serve: on a text alone" in found.detail
    assert "Set PAWL_BACKEND to auto or onnxruntime" in found.remedy


def test_where_none_may_serve_it_fails() -> None:
    assert describe("auto", _proofs(onnxruntime=_WRONG), None).outcome is CheckResult.FAIL
    assert describe("auto", {}, None).outcome is CheckResult.WARN


async def test_it_reads_what_was_kept_for_the_live_version(install: Installer) -> None:
    pawl = install.trained(backend="auto")
    async with open_stores(pawl.settings) as stores:
        before = await check_backend(pawl.settings, stores)
        live = await stores.ledger.live()
        assert live is not None
        folder = pawl.settings.artefacts_path / "versions" / f"{live.number:08d}" / ENCODER_FOLDER
        chosen = Backends.of(pawl.settings).open(folder, live.encoder_digest).library
        found = await check_backend(pawl.settings, stores)
    assert "not measured yet" in before.detail or "the only one" in before.detail
    assert found.detail.startswith(f"{chosen}, ")
    assert "times as fast as the next one" in found.detail
