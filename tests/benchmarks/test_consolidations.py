"""The benchmarks of training: they run from end to end on the tiny encoder, and their attacks are what they say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.learning import consolidations, consolidations_cases
from benchmarks.learning.attack import stood, variants, with_synonyms, with_typos
from tests.tiny_encoder import WORDS, write_tiny_encoder

_TEXT = "The company said profit rose by 10 million in Finland"


@pytest.fixture(autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    encoder = write_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    options = {"encoder": encoder, "random_features": 16, "threads": 1, "device": "cpu", "epochs": 1, "coreset": 100}
    for name, value in options.items():
        monkeypatch.setenv(f"PAWL_{name.upper()}", str(value))
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def _results(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / f"{name}.json").read_text())["results"])


def _phrasebank(path: Path) -> Path:
    rng, rows = random.Random(0), []
    for number in range(120):
        label = number % 2
        words = [rng.choice(WORDS[:20][label::2]), *rng.sample(WORDS[20:], 4), f"n{number}"]
        rows.append(f"{' '.join(words)}@{('positive', 'neutral')[label]}")
    path.write_text("\n".join(rows), encoding="latin-1")
    return path


def test_each_method_gets_a_row_on_samples_that_are_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "financial_phrasebank").mkdir()
    _phrasebank(tmp_path / "financial_phrasebank" / "Sentences_50Agree.txt")
    common = ["phrasebank", "--data", str(tmp_path), "--results", str(tmp_path), "--attack"]
    consolidations.main([*common, "--methods", "frozen", "plain"])
    consolidations.main([*common, "--methods", "default"])  # is added to what there is
    found = _results(tmp_path, "consolidations_phrasebank")
    assert list(found) == ["default", "frozen", "plain"]
    assert "samples_per_s" not in found["frozen"]
    assert found["default"]["samples_per_s"] > 0
    for row in found.values():
        assert {"accuracy", "typos", "synonyms", "gained", "lost"} <= row.keys()
    dev = consolidations_cases.phrasebank(tmp_path, tmp_path, 0, test=False)
    test = consolidations_cases.phrasebank(tmp_path, tmp_path, 0, test=True)
    parts = [{s.text for s in part} for part in (dev.new, dev.asked, test.asked)]
    assert [len(part) for part in parts] == [77, 19, 24]
    assert not parts[0] & parts[1]
    assert {s.text for s in test.new} == parts[0] | parts[1]
    assert not {s.text for s in test.new} & parts[2]
    few = consolidations_cases.phrasebank(tmp_path, tmp_path, 0, test=False, texts=20)
    assert (few.new, few.asked) == (dev.new[:20], dev.asked)


def test_the_second_step_of_clinc150_replays_the_first(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = {part: [] for part in ("train", "val")}  # type: dict[str, list[list[str]]]
    for label in range(6):
        for part, count in (("train", 12), ("val", 3)):
            rows[part] += [[f"{WORDS[label]} {' '.join(rng.sample(WORDS, 3))}", f"c{label}"] for _ in range(count)]
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps(rows))
    common = ["clinc150", "--data", str(tmp_path), "--results", str(tmp_path), "--texts", "60", "--replay", "2"]
    consolidations.main([*common, "--methods", "default", "der++", "freelb", "no replay"])
    found = _results(tmp_path, "consolidations_clinc150_60")
    assert {"old classes", "new classes"} <= found["default"].keys()
    assert list(found) == ["default", "freelb", "der++", "no replay"]


def test_both_loops_train_the_same_texts(tmp_path: Path) -> None:
    given = ["--encoders", "tiny", "--texts", "20", "--batch", "8", "--rounds", "1", "--token-budget", "64"]
    gpu.main([*given, "--device", "cpu", "--results", str(tmp_path)])
    found = _results(tmp_path, "gpu_cpu")
    loops = found["encoders"]["tiny"]
    assert list(loops) == ["pawl", "trainer", "trainer bf16", "pawl, by tokens"]
    assert loops["trainer"]["ratio"] == 1.0
    assert all(0 < loop["share_of_peak"] < 1 for loop in loops.values())


def test_needed_operations_are_those_of_the_formula() -> None:
    work = gpu.Work("tiny", torch.device("cpu"), ((1, 2, 3), (1, 2)), (0, 1), 2)
    d, inner = 32, 64
    layer = 4 * (d * d + d) + (d * inner + inner) + (inner * d + d) + 4 * d
    assert gpu.needed_flops(work) == 6 * 2 * layer * 5 + 12 * 2 * d * (9 + 4)


def test_typos_change_words_but_neither_short_ones_nor_numbers_nor_first_letters() -> None:
    changed = variants([_TEXT], lambda text, rng: with_typos(text, rng, share=1.0), 50, seed=0)
    assert all(one != _TEXT for one in changed)
    for one in changed:
        words = one.split()
        assert [word[0] for word in words] == [word[0] for word in _TEXT.split()]
        assert [words[k] for k in (0, 5, 6, 8)] == ["The", "by", "10", "in"]
    assert with_typos(_TEXT, random.Random(0), share=0.0) == _TEXT
    assert changed == variants([_TEXT], lambda text, rng: with_typos(text, rng, share=1.0), 50, seed=0)


def test_synonyms_come_from_the_list_and_keep_capitals() -> None:
    found = set(variants(["Company profit"], lambda text, rng: with_synonyms(text, rng, share=1.0), 50, seed=0))
    firms, profits = ("Firm", "Business", "Corporation"), ("earnings", "gain")
    assert found == {f"{firm} {profit}" for firm in firms for profit in profits}


def test_a_text_stands_when_all_its_variants_are_right() -> None:
    assert stood([True, True, True, False, False, False], 2) == [True, False, False]
