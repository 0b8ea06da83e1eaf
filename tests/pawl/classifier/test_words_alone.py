"""A version without an encoder, loaded and asked: words answer, whatever the text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pawl.artefacts import FolderArtefactStore
from pawl.classifier.classifier import load_classifier
from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.classifier.served_heads import ServedHeads
from pawl.classifier.stacking import Stacking
from pawl.domain.manifest import FEATURES_FILE
from tests.pawl.classifier.tiny_version import LABELS, lexical_head, tiny_files


def test_every_text_is_answered_by_words(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder", export_encoder("none", tmp_path / "encoder", max_tokens=64)
    manifest, files = tiny_files(encoder, dimension=1)
    features, rng = RandomFeatures.create(0, 0, 0, 0), np.random.default_rng(0)
    files[FEATURES_FILE] = features.to_bytes()
    infos, lexical = {}, {}
    for task, names in LABELS.items():
        semantic = LinearHead(names, np.zeros((1, len(names)), np.float32), np.zeros(len(names), np.float32), 0.5)
        nothing = Novelty(np.zeros((0, 0), np.float32), np.linspace(-2, 2, 101, dtype=np.float32), 0.3)
        lexical[task] = lexical_head(rng, len(names), Stacking.LEXICAL, None)
        heads = ServedHeads(semantic, nothing, lexical[task])
        infos[task], packed = heads.packed(task)
        files |= packed
    folder = FolderArtefactStore(tmp_path / "store").publish(1, replace(manifest, heads=infos), files)
    classifier = load_classifier(folder)
    assert classifier.is_fast("tone")
    assert classifier.max_tokens == 0
    texts = ["where is my card", "", "你好", "a" * 20_000]
    for task in LABELS:
        answers = classifier.predict(texts, task)
        best = lexical[task].read(texts)[0].argmax(axis=1)
        assert [answer.scores[0].label for answer in answers] == [LABELS[task][column] for column in best]
        assert {answer.by for answer in answers} == {"words"}
        words = classifier.words(texts, task)
        asked = classifier.answer(classifier.embed(texts), task, words=words)
        assert [each.scores for each in asked] == [each.scores for each in answers]
