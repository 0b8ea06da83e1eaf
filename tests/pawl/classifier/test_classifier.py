"""A whole version: loading, answering, and what is refused."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl import load
from pawl.artefacts import FolderArtefactStore, read_folder
from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.classifier.served_heads import best_columns
from pawl.domain.errors import ArtefactCorrupt, UnknownTask
from pawl.domain.manifest import novelty_file
from pawl.domain.versions import HeadInfo
from pawl.ports import VersionFolder
from tests.pawl.classifier.conftest import TEXTS
from tests.pawl.classifier.tiny_version import LABELS, publish_tiny_version, tiny_files


@pytest.fixture
def folder(tmp_path: Path, tiny: tuple[Path, str]) -> VersionFolder:
    return publish_tiny_version(tmp_path, tiny)


@pytest.fixture
def classifier(folder: VersionFolder) -> Classifier:
    return load_classifier(folder, backends=Backends(threads=1))


def test_answers_are_the_parts_put_together(classifier: Classifier) -> None:
    z = classifier.embed(TEXTS)
    assert classifier.tasks == ("default", "tone")
    for task, labels in LABELS.items():
        head = classifier.heads[task].semantic
        scores = head.scores(classifier.features.expand(z))
        probabilities = head.probabilities(classifier.features.expand(z))
        novelty = classifier.heads[task].novelty.rank(z, scores)
        answers = classifier.answer(z, task, top_k=10)
        whole = classifier.predict(TEXTS, task, top_k=10)
        assert answers == [replace(answer, warnings=()) for answer in whole], "which also says what it could not read"
        for answer, row, unusual in zip(answers, probabilities, novelty, strict=True):
            assert [s.label for s in answer.scores] == [labels[c] for c in np.argsort(-row, kind="stable")]
            assert [s.score for s in answer.scores] == sorted(map(float, row), reverse=True)
            assert sum(s.score for s in answer.scores) == pytest.approx(1.0, abs=1e-5)
            assert answer.novelty == float(unusual)
            assert answer.by == "meaning"
            assert (answer.label, answer.score) == (labels[int(row.argmax())], float(row.max()))


def test_top_k_takes_what_there_is(classifier: Classifier) -> None:
    assert [len(a.scores) for a in classifier.predict(["card"], top_k=3)] == [3]
    assert [len(a.scores) for a in classifier.predict(["card"], "tone", top_k=99)] == [2]
    assert classifier.predict([]) == []
    assert classifier.answer(np.empty((0, 32), np.float32)) == []


def test_an_unknown_task_is_named(classifier: Classifier) -> None:
    with pytest.raises(UnknownTask, match="'topic' is not known to version 1"):
        classifier.predict(["card"], "topic")


@settings(max_examples=200)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_of_equal_labels_the_lower_column_comes_first(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    expected = sorted(range(len(values)), key=lambda column: (-values[column], column))[:count]
    assert best_columns(np.array(values, dtype=np.float32), count) == expected


def test_a_given_encoder_is_used_if_it_is_the_versions(
    folder: VersionFolder, classifier: Classifier, tiny: tuple[Path, str]
) -> None:
    assert load_classifier(folder, encoder=classifier.encoder).encoder is classifier.encoder
    other = OnnxEncoder(tiny[0], threads=1, digest="another")
    assert load_classifier(folder, encoder=other).encoder.digest == folder.manifest.encoder_digest


def test_a_manifest_that_names_another_encoder_or_head_is_refused(folder: VersionFolder) -> None:
    manifest = folder.manifest
    wrong = dataclasses.replace(manifest, encoder_digest="0" * 64)
    with pytest.raises(ArtefactCorrupt, match="the manifest names 0000"):
        load_classifier(dataclasses.replace(folder, manifest=wrong))
    heads = dict(manifest.heads) | {"tone": HeadInfo("1" * 64, LABELS["tone"], 0.5)}
    with pytest.raises(ArtefactCorrupt, match=r"tone.*the manifest names 1111"):
        load_classifier(dataclasses.replace(folder, manifest=dataclasses.replace(manifest, heads=heads)))
    heads = dict(manifest.heads) | {"tone": HeadInfo(manifest.heads["tone"].digest, ("one",), 0.5)}
    with pytest.raises(ArtefactCorrupt, match="for 1 labels"):
        load_classifier(dataclasses.replace(folder, manifest=dataclasses.replace(manifest, heads=heads)))


def test_parts_of_other_widths_are_refused(tmp_path: Path, tiny: tuple[Path, str], classifier: Classifier) -> None:
    with pytest.raises(ArtefactCorrupt, match="takes 96 features, there are 97"):
        load_classifier(publish_tiny_version(tmp_path / "narrow", tiny, dimension=31))
    with pytest.raises(ArtefactCorrupt, match="a projection of 33 numbers does not fit embeddings of 32"):
        load_classifier(publish_tiny_version(tmp_path / "wide", tiny, dimension=33))
    narrow = LinearHead(("a",), np.zeros((7, 1), np.float32), np.zeros(1, np.float32), 1.0)
    c = classifier
    tone = c.heads["tone"]
    with pytest.raises(ValueError, match="head 'x' takes 7 features"):
        Classifier(1, c.manifest, c.encoder, c.features, {"x": replace(tone, semantic=narrow)})
    wide = Novelty(np.eye(33, dtype=np.float32), tone.novelty.quantiles, 0.3)
    with pytest.raises(ValueError, match="there is no novelty for task 'tone'"):
        Classifier(1, c.manifest, c.encoder, c.features, {"tone": replace(tone, novelty=wide)})


def test_a_version_without_novelty_is_refused(tmp_path: Path, tiny: tuple[Path, str]) -> None:
    manifest, files = tiny_files(tiny)
    del files[novelty_file("tone")]
    with pytest.raises(ArtefactCorrupt, match="tone"):
        load_classifier(FolderArtefactStore(tmp_path / "without").publish(1, manifest, files))


def test_embeddings_that_are_not_finite_are_never_served(classifier: Classifier) -> None:
    class Broken:
        digest, dimension = "x", 32

        def encode(self, texts: object) -> np.ndarray:
            return np.full((1, 32), np.nan, np.float32)

    broken = Classifier(3, classifier.manifest, Broken(), RandomFeatures.create(32, 0, 0), {})
    with pytest.raises(ArtefactCorrupt, match=r"version 3 is damaged.*not finite"):
        broken.embed(["card"])


def test_three_lines_without_the_service(folder: VersionFolder, classifier: Classifier) -> None:
    model = load(str(folder.path))
    assert model.predict(["my card was stolen"])[0].label == classifier.predict(["my card was stolen"])[0].label
    assert model.number == 1


def test_offline_loading_checks_every_file(folder: VersionFolder) -> None:
    assert read_folder(folder.path) == folder
    head = folder.path / "heads" / "tone.safetensors"
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.chmod(0o644)
    head.write_bytes(content)
    with pytest.raises(ArtefactCorrupt, match=r"tone\.safetensors.*sha256"):
        load(folder.path)


def test_answering_imports_neither_torch_nor_transformers(folder: VersionFolder, classifier: Classifier) -> None:
    code = """
import sys
from pawl import load
print(load(sys.argv[1]).predict(["my card was stolen"], top_k=2)[0].label)
heavy = {"torch", "transformers", "scipy", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
"""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-W", "error", "-c", code, str(folder.path)]
    done = subprocess.run(command, cwd=root, env=os.environ | {}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == classifier.predict(["my card was stolen"])[0].label


def test_light_modules_do_not_import_torch() -> None:
    code = """
import sys
import pawl.classifier.encoders.export, pawl.classifier.encoders.source, pawl.classifier.calibration
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)


@pytest.mark.parametrize("program", ["app.server", "worker.__main__"])
def test_matrix_products_take_one_thread(program: str) -> None:
    code = f"""
import {program}, threadpoolctl
from pawl.processes.threads import calm_blas
calm_blas()
print([pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    threads = json.loads(done.stdout)
    assert threads, "numpy's library is loaded with the program"
    assert set(threads) == {1}
