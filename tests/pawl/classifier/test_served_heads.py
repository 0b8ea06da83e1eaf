"""A version with two heads: what it answers, by which of them, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pawl.artefacts import FolderArtefactStore, read_folder
from pawl.classifier.calibration import softmax
from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.no_encoder import NoEncoder
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.lexical_head import LexicalHead, WordsAlone, kept_number
from pawl.classifier.novelty import LexicalNovelty, Novelty
from pawl.classifier.served_heads import ServedHeads
from pawl.classifier.stacking import Stacking
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.manifest import Manifest, lexical_file
from pawl.domain.samples import digest_text
from pawl.domain.versions import HeadInfo, LexicalInfo
from pawl.ports import Floats, VersionFolder
from tests.pawl.classifier.conftest import TEXTS
from tests.pawl.classifier.tiny_version import LABELS, lexical_head, tiny_files

_STACKING = Stacking.of(0.5, 0.2, 0.1)


@pytest.fixture
def folder(tmp_path: Path, tiny: tuple[Path, str]) -> VersionFolder:
    manifest, files = tiny_files(tiny, stacking=_STACKING, threshold=0.5)
    return FolderArtefactStore(tmp_path).publish(1, manifest, files)


@pytest.fixture
def classifier(folder: VersionFolder) -> Classifier:
    return load_classifier(folder, backends=Backends(threads=1))


def with_alone(heads: ServedHeads, **changes: object) -> ServedHeads:
    """The same heads with other rules for the words alone."""
    lexical = heads.lexical
    assert lexical is not None
    alone = WordsAlone(**{name: getattr(lexical.alone, name) for name in WordsAlone.__dataclass_fields__} | changes)
    return replace(heads, lexical=LexicalHead(lexical.features.size, lexical.weights, lexical.stacking, alone))


def with_heads(classifier: Classifier, heads: dict[str, ServedHeads]) -> Classifier:
    return Classifier(1, classifier.manifest, classifier.encoder, classifier.features, heads)


def test_the_pair_is_the_sum_of_both_heads(classifier: Classifier) -> None:
    z = classifier.embed(TEXTS)
    for task, labels in LABELS.items():
        heads, words = classifier.heads[task], classifier.words(TEXTS, task)
        assert heads.lexical is not None
        assert words is not None
        phi, offsets = classifier.features.expand(z), heads.semantic.offsets
        dense = heads.lexical.features.expand(TEXTS) @ heads.lexical.weights
        np.testing.assert_allclose(words[:, :-1], dense + offsets, rtol=1e-4, atol=1e-5)
        pair = _STACKING.semantic * (phi @ heads.semantic.weights) + _STACKING.lexical * dense + offsets
        np.testing.assert_allclose(heads.scores(phi, words), pair, rtol=1e-4, atol=1e-4)
        for row, answer in zip(pair, classifier.answer(z, task, 99, words), strict=True):
            expected = softmax(row / np.float32(0.5))
            assert [one.label for one in answer.scores] == [labels[column] for column in np.argsort(-row)]
            np.testing.assert_allclose([one.score for one in answer.scores], sorted(expected)[::-1], atol=1e-5)
            assert answer.by == "both"
        with pytest.raises(ValueError, match="scores are missing"):
            classifier.answer(z, task)


def test_words_alone_answer_where_their_margin_is_above_the_threshold(classifier: Classifier) -> None:
    words = classifier.words(TEXTS)
    assert words is not None
    rarities = words[:, -1]
    margins = np.sort(words[:, :-1], axis=1)
    margins = margins[:, -1] - margins[:, -2]
    threshold = float(np.median(margins))
    some = with_heads(classifier, {"default": with_alone(classifier.heads["default"], threshold=threshold)})
    assert some.is_fast()
    answers = some.fast_answers(TEXTS, words, top_k=2)
    assert [answer is not None for answer in answers] == (margins >= np.float32(threshold)).tolist()
    assert 0 < sum(answer is None for answer in answers) < len(TEXTS)
    lexical = some.heads["default"].lexical
    assert lexical is not None
    counts = lexical.features.expand(TEXTS)
    expected = np.where(counts.any(1), (counts**2 * lexical.alone.novelty.rarity).sum(1), 1)
    np.testing.assert_allclose(rarities, expected, rtol=1e-5)
    for row, rarity, answer in zip(words[:, :-1], rarities, answers, strict=True):
        if answer is not None:
            assert (answer.by, answer.label) == ("words", LABELS["default"][int(row.argmax())])
            assert answer.score == pytest.approx(float(softmax(row / np.float32(0.25)).max()), abs=1e-6)
            strangeness = np.log(rarity) - row.max()
            assert answer.novelty == pytest.approx(
                np.interp(strangeness, np.linspace(-3, 1, 101), np.linspace(0, 1, 101)), abs=1e-5
            )
    whole = some.predict(TEXTS, top_k=2)
    rest = [row for row, answer in enumerate(answers) if answer is None]
    full = iter(some.answer(some.embed([TEXTS[row] for row in rest]), "default", 2, words[rest]))
    assert [replace(told, warnings=()) for told in whole] == [fast or next(full) for fast in answers]
    for text, answer in zip(TEXTS, answers, strict=True):
        alone = some.words([text])
        assert alone is not None
        assert some.fast_answers([text], alone, top_k=2) == [answer], "alone as among others, to the last bit"


def test_a_text_that_is_answered_by_words_is_not_embedded(classifier: Classifier) -> None:
    all_fast = with_heads(classifier, {"default": with_alone(classifier.heads["default"], threshold=0.0)})
    embedded = classifier.encoder.encode

    class Counting:
        digest, dimension = classifier.encoder.digest, classifier.encoder.dimension

        def encode(self, texts: Sequence[str]) -> Floats:
            seen.extend(texts)
            return embedded(texts)

    seen: list[str] = []
    all_fast.encoder = Counting()
    assert {answer.by for answer in all_fast.predict(TEXTS)} == {"words"}
    assert not seen
    none_fast = with_heads(classifier, {"default": with_alone(classifier.heads["default"], threshold=None)})
    assert not none_fast.is_fast()
    assert {answer.by for answer in none_fast.predict(TEXTS)} == {"both"}


def test_a_kept_text_gets_both_heads_whatever_its_margin(classifier: Classifier) -> None:
    kept = np.array(sorted(kept_number(digest_text(text)) for text in TEXTS[:2]), dtype=np.uint64)
    heads = with_alone(classifier.heads["default"], threshold=0.0, kept=kept)
    model = with_heads(classifier, {"default": heads})
    assert [answer.by for answer in model.predict([TEXTS[0].upper(), TEXTS[1], TEXTS[3]])] == ["both", "both", "words"]


def test_without_an_encoder_words_answer_everything() -> None:
    rng = np.random.default_rng(0)
    head = lexical_head(rng, 3, Stacking.LEXICAL, None, kept=["b"])
    rows, rarities = head.read(["a", "b", "a longer text", "  "])
    assert ((rarities > 0) & (rarities <= 1)).all()
    assert rarities[3] == 1, "a text without a character is as strange as can be"
    assert head.is_fast
    assert head.passes(["a", "b", "a longer text"], rows[:3]) == [0, 1, 2]


def test_what_is_written_is_what_is_read(folder: VersionFolder, classifier: Classifier) -> None:
    for task, info in folder.manifest.heads.items():
        said, files = classifier.heads[task].packed(task)
        assert said == info
        assert {path: folder.path.joinpath(path).read_bytes() for path in files} == files
    assert Manifest.from_json(folder.manifest.to_json(), "x") == folder.manifest


def test_relabelled_heads_answer_under_the_names_of_now_and_by_words_not_yet(classifier: Classifier) -> None:
    before = classifier.heads["default"]
    after = before.relabelled(["card", "money", None, "money"], 0.04)
    assert after is not None
    assert after.labels == ("card", "money")
    assert before.lexical is not None
    assert after.lexical is not None
    weights = before.lexical.weights
    np.testing.assert_allclose(after.lexical.weights, np.stack([weights[:, 0], weights[:, 1] + weights[:, 3]], axis=1))
    assert not after.is_fast
    said = after.packed("default")[0].lexical
    assert said is not None
    assert said == replace(before.lexical.info(said.digest), threshold=None, share=None)
    assert before.relabelled([None] * 4, 0.04) is None


@pytest.mark.parametrize("harm", ["torn", "altered", "missing"])
def test_a_harmed_lexical_file_fails_closed(folder: VersionFolder, harm: str) -> None:
    path = folder.path / lexical_file("tone")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.unlink()
    if harm != "missing":
        path.write_bytes(content[:1000] if harm == "torn" else content)
    with pytest.raises(ArtefactCorrupt, match=r"lexical/tone\.safetensors"):
        read_folder(folder.path)


def test_a_lexical_file_that_does_not_fit_its_manifest_is_refused(folder: VersionFolder) -> None:
    def loaded(**changes: Any) -> None:
        info = folder.manifest.heads["tone"]
        assert info.lexical is not None
        heads = dict(folder.manifest.heads) | {"tone": replace(info, lexical=replace(info.lexical, **changes))}
        load_classifier(replace(folder, manifest=replace(folder.manifest, heads=heads)), backends=Backends(threads=1))

    loaded()
    with pytest.raises(ArtefactCorrupt, match=r"lexical/tone.*the manifest names 1111"):
        loaded(digest="1" * 64)
    with pytest.raises(ArtefactCorrupt, match="for 512 lexical features"):
        loaded(size=512)
    with pytest.raises(ArtefactCorrupt, match="power of two"):
        loaded(size=300)
    with pytest.raises(ArtefactCorrupt, match="shares"):
        loaded(semantic=0.9)
    with pytest.raises(ArtefactCorrupt, match="threshold -1"):
        loaded(threshold=-1.0)
    with pytest.raises(ArtefactCorrupt, match="temperature nan"):
        loaded(temperature=float("nan"))


def test_rules_of_words_that_are_none_are_refused() -> None:
    quantiles, rarity = np.linspace(0, 1, 101, dtype=np.float32), np.ones(256, np.float32)
    with pytest.raises(ValueError, match="decrease"):
        LexicalNovelty(rarity, quantiles[::-1])
    for wrong in (0.0, 2.0):
        with pytest.raises(ValueError, match="rarity"):
            LexicalNovelty(wrong * rarity, quantiles)
    with pytest.raises(ValueError, match="not sorted"):
        WordsAlone(1.0, LexicalNovelty(rarity, quantiles), kept=np.array([2, 1], np.uint64))


def test_a_version_without_an_encoder_answers_all_by_words(classifier: Classifier) -> None:
    features = RandomFeatures(np.zeros((0, 0), np.float32))
    head = LinearHead(LABELS["tone"], np.zeros((1, 2), np.float32), np.zeros(2, np.float32), 1.0)
    novelty = Novelty(np.zeros((0, 0), np.float32), np.linspace(-1, 1, 101, dtype=np.float32), 0.3)
    rng = np.random.default_rng(1)
    words = ServedHeads(head, novelty, lexical_head(rng, 2, Stacking.LEXICAL, None))
    model = Classifier(1, classifier.manifest, NoEncoder("0" * 64), features, {"tone": words})
    assert {answer.by for answer in model.predict(TEXTS, "tone")} == {"words"}
    scores = model.words(TEXTS, "tone")
    assert model.answer(model.embed(TEXTS), "tone", 1, scores) == model.predict(TEXTS, "tone")


def test_info_says_what_the_manifest_needs() -> None:
    head = lexical_head(np.random.default_rng(0), 2, _STACKING, 0.3)
    info = head.info("a" * 64)
    assert info == LexicalInfo("a" * 64, 256, 0.25, 0.5, _STACKING.semantic, _STACKING.lexical, 0.3, 0.4, 0.0)
    assert HeadInfo.from_json({"digest": "b", "labels": ["x"], "temperature": 1, "lexical": None}).lexical is None
