"""The learning protocols run from end to end with a tiny encoder and invented texts, and their parts measure right."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.class_incremental import Course
from benchmarks.datasets import Labelled, invented
from benchmarks.harness import BenchmarkFailed
from benchmarks.learning import b1, b2, b3, b4, b5, b6, b7, oos
from benchmarks.learning.answers import Questions, Scores
from benchmarks.learning.courses import draw
from benchmarks.learning.data import Split, invented_split, load_split
from benchmarks.learning.embeddings import CachedEncoder
from benchmarks.learning.floors import NGramRidge
from benchmarks.learning.metrics import examine, from_text, mcnemar, summary, to_text
from benchmarks.learning.pawl_learner import workshop
from benchmarks.learning.report import write_section
from benchmarks.learning.rows import chosen
from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.classifier import load_classifier
from pawl.domain.samples import SampleState
from pawl.domain.versions import VersionKind

pytestmark = pytest.mark.usefixtures("tiny")
PROGRAMS = {"b1": b1.main, "b2": b2.main, "b3": b3.main, "b4": b4.main, "b5": b5.main, "b6": b6.main}
PROGRAMS |= {"b7": b7.main, "oos": oos.main}
WITHOUT_PLOT = {"b5", "b7"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_protocol_runs_and_leaves_its_results(name: str, tmp_path: Path) -> None:
    places = [f"--{place}={tmp_path / place}" for place in ("results", "docs", "cache")]
    PROGRAMS[name](["--quick", *places])
    document = json.loads((tmp_path / "results" / f"learning_{name}.json").read_text())
    assert document["benchmark"] == f"learning_{name}"
    assert bool(document["results"]["goals"]) is (name != "b7"), "it says whether the goals were met"
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert f"<!-- {name} -->\n## {name.upper()}" in page
    if name in WITHOUT_PLOT:
        return
    assert f"](plots/{name}.svg)" in page
    assert (tmp_path / "docs" / "plots" / f"{name}.svg").stat().st_size < 200_000


def test_head_updates_in_steps_end_where_one_import_ends(tmp_path: Path) -> None:
    places = [f"--{place}={tmp_path / place}" for place in ("results", "docs", "cache")]
    b1.main(["--quick", "--rows", "pawl,joint", *places])
    rows = json.loads((tmp_path / "results" / "learning_b1.json").read_text())["results"]["rows"]
    [steps], [joint] = rows["pawl"]["runs"], rows["joint"]["runs"]
    assert len(steps["accuracy_by_step"]) == 3
    assert joint["acc"] > 50.0
    assert abs(steps["acc"] - joint["acc"]) <= 100 * 2 / 36


def _course(name: str, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Runs a course; its results and the page."""
    PROGRAMS[name](["--quick", *options, *(f"--{place}={folder / place}" for place in ("results", "docs", "cache"))])
    results = json.loads((folder / "results" / f"learning_{name}.json").read_text())["results"]
    return results, (folder / "docs" / "benchmarks.md").read_text()


@pytest.fixture
def _lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that passes whatever a training of a few steps makes of an encoder, however long it takes."""
    for name in ("max_drop", "max_class_drop", "max_ece_rise"):
        monkeypatch.setenv(f"PAWL_GATE_{name.upper()}", "1")
    monkeypatch.setenv("PAWL_GATE_MAX_LATENCY_RATIO", "1000")


@pytest.mark.usefixtures("_lenient")
@pytest.mark.parametrize("name", ["b1", "b5"])
def test_a_consolidation_has_a_row(name: str, tmp_path: Path) -> None:
    found, page = _course(name, tmp_path, "--rows", "pawl,consolidated")
    [alone], [run] = found["rows"]["pawl"]["runs"], found["rows"]["consolidated"]["runs"]
    [done] = run["consolidations"]
    assert (done["outcome"], done["reasons"]) == ("promoted", [])
    assert done["metrics"]["steps"] > 0
    assert done["acc_before"] == alone["acc"], "the same head updates"
    assert done["acc"] == run["acc"]
    assert found["rows"]["consolidated"]["against"] == "pawl"
    assert any("consolidated" in goal["goal"] for goal in found["goals"])
    assert "| 1 of 1, " in page


@pytest.mark.usefixtures("_lenient")
def test_a_consolidation_is_compared_with_one_after_a_single_import(tmp_path: Path) -> None:
    found, _ = _course("b1", tmp_path, "--rows", "consolidated,joint_consolidated")
    [joint] = found["rows"]["joint_consolidated"]["runs"]
    assert len(joint["accuracy_by_step"]) == len(joint["consolidations"]) == 1
    apart = joint["acc"] - found["rows"]["consolidated"]["runs"][0]["acc"]
    assert any(f"consolidated: {apart:.2f} points below joint" in goal["goal"] for goal in found["goals"])


@pytest.mark.usefixtures("_lenient")
def test_a_stream_is_consolidated_after_its_import_and_when_enough_labels_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(b4, "_TRAIN_AFTER", 50)
    places = [f"--{place}={tmp_path / place}" for place in ("results", "docs", "cache")]
    b4.main(["--quick", "--rows", "ngram,consolidated", *places])
    found = json.loads((tmp_path / "results" / "learning_b4.json").read_text())["results"]
    [run] = found["streams"]["invented"]["consolidated"]["runs"]
    assert [one["labels"] for one in run["consolidations"]] == [30, 80], "of 110 labels that come in time"
    assert {one["outcome"] for one in run["consolidations"]} == {"promoted"}
    assert any("invented, consolidated: above" in goal["goal"] for goal in found["goals"])


@pytest.mark.usefixtures("_lenient")
async def test_after_a_consolidation_the_version_it_made_is_asked(tmp_path: Path) -> None:
    rows = invented(4, 12, random.Random(0))
    with workshop(tmp_path) as shop:
        pawl, questions = shop.pawl(), Questions(rows[30:])
        await pawl.learn(rows[:30])
        before = await pawl.scores(questions)
        first = await pawl.classifier()
        assert (await pawl.consolidate()).outcome == "promoted"
        live, model = await pawl.ledger.live(), await pawl.classifier()
        assert live is not None
        assert (live.number, live.kind) == (model.number, VersionKind.CONSOLIDATION)
        assert model.manifest.encoder_digest != first.manifest.encoder_digest
        served = load_classifier(FolderArtefactStore(pawl.root / "artefacts").open(live.number))
        scores = (await pawl.scores(questions)).values
        heads, phi = served.heads["default"], served.features.expand(served.embed(questions.texts))
        np.testing.assert_allclose(scores, heads.scores(phi, heads.words(questions.texts)), atol=1e-5)
        assert not np.allclose(scores, before.values, atol=1e-3), "another encoder has other scores"
        await pawl.close()


def test_a_refused_consolidation_leaves_what_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAWL_GATE_MAX_LATENCY_RATIO", "0.000001")  # head updates take no time and are not asked
    found, page = _course("b1", tmp_path, "--rows", "pawl,consolidated_each_step")
    [alone], [run] = found["rows"]["pawl"]["runs"], found["rows"]["consolidated_each_step"]["runs"]
    assert [told["outcome"] for told in run["consolidations"]] == ["refused"] * 3
    assert all("the live time" in told["reasons"][-1] for told in run["consolidations"])
    assert run["accuracy_by_step"] == alone["accuracy_by_step"]
    assert "| 0 of 3, " in page


def test_rows_and_seeds_of_several_runs_make_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _course("b1", tmp_path, "--rows", "class_mean,joint")
    found, _ = _course("b1", tmp_path, "--rows", "ngram,joint", "--seed", "1")
    assert list(found["rows"]) == ["ngram", "class_mean", "joint"]
    assert [run["seed"] for run in found["rows"]["joint"]["runs"]] == [0, 1]
    assert all(run["commit"] for row in found["rows"].values() for run in row["runs"])
    found, page = _course("b1", tmp_path, "--rows", "joint", "--seed", "1")
    assert [run["seed"] for run in found["rows"]["joint"]["runs"]] == [0, 1], "measured again, not twice"
    tests = {name: (row["against"], [test["seed"] for test in row["mcnemar"]]) for name, row in found["rows"].items()}
    assert tests == {"ngram": ("class_mean", []), "class_mean": ("joint", [0]), "joint": (None, [])}
    assert "joint" in page
    assert "n-gram ridge: seed 1, commit" in page
    monkeypatch.setenv("PAWL_RANDOM_FEATURES", "32")
    found, _ = _course("b1", tmp_path, "--rows", "joint")
    assert list(found["rows"]) == ["joint"], "rows of other settings make no table"


def test_rows_that_train_are_measured_only_where_they_mean_something() -> None:
    assert {row.consolidates for row in chosen(None)} == {"never"}
    assert [row.name for row in chosen("consolidated,pawl")] == ["pawl", "consolidated"]
    with pytest.raises(BenchmarkFailed, match="consolidated"):
        b3.main(["--quick", "--rows", "consolidated"])


def test_outcomes_survive_the_file() -> None:
    right = np.array([True, False, False, True, True, False, True, False, True])
    assert from_text(to_text(right), len(right)).tolist() == right.tolist()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_explains_itself_and_names_missing_data(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        PROGRAMS[name](["--help"])
    assert "--seeds" in capsys.readouterr().out
    with pytest.raises(BenchmarkFailed, match="nowhere"):
        PROGRAMS[name](["--data", str(tmp_path / "nowhere")])


async def test_scores_are_those_of_the_version_that_serves(tmp_path: Path) -> None:
    rows = invented(4, 12, random.Random(0))
    with workshop(tmp_path) as shop:
        pawl, questions = shop.pawl(), Questions(rows[30:])
        await pawl.learn(rows[:20])
        before = (await pawl.scores(questions)).best()
        await pawl.learn(rows[20:30])
        await pawl.rest()
        model, scores = await pawl.classifier(), await pawl.scores(questions)
        assert scores.best() == [answer.label for answer in model.predict(questions.texts)]
        assert model.number == pawl.runner.state.version  # type: ignore[union-attr] # it has just learned
        assert len(scores.best()) == len(before)
        assert [len(one.adds) for one in pawl.ledger.verdicts if one.accepted and one.adds] == [20, 10]
        await pawl.close()


async def test_what_is_retracted_is_answered_as_if_it_had_never_come(tmp_path: Path) -> None:
    rows = invented(4, 12, random.Random(0))
    gone = rows[0].label
    with workshop(tmp_path) as shop:
        pawl, questions = shop.pawl(), Questions(rows)
        ids = await pawl.teach(pawl.lessons(rows))
        own = [one.id for one in await pawl.samples.get_many(ids) if one.label == gone]
        await pawl.retract(own)
        assert {one.state for one in await pawl.samples.get_many(own)} == {SampleState.RETRACTED}
        assert gone not in (await pawl.scores(questions)).best()
        await pawl.close()


def test_an_embedding_is_computed_once(tmp_path: Path) -> None:
    class Counting:
        digest, dimension, calls = "d" * 64, 2, 0

        def encode(self, texts: Any) -> Any:
            self.calls += len(texts)
            return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    inner = Counting()
    first = CachedEncoder(inner, tmp_path)
    assert first.encode(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    first.close()
    second = CachedEncoder(inner, tmp_path)
    assert second.encode(["bb", "ccc"]).tolist() == [[2, 1], [3, 1]]
    second.close()
    assert inner.calls == 3


async def test_n_gram_ridge_in_parts_is_n_gram_ridge_at_once() -> None:
    rows = invented(6, 10, random.Random(4))
    whole, parts = NGramRidge(), NGramRidge()
    await whole.learn(rows)
    for start in range(0, len(rows), 7):
        await parts.learn(rows[start : start + 7])
    one, other = await whole.scores(Questions(rows)), await parts.scores(Questions(rows))
    assert list(one.labels) == list(other.labels)
    np.testing.assert_allclose(one.values, other.values, atol=2e-4)
    assert one.right(rows).all()


def test_the_measures_of_a_course() -> None:
    course = Course([["a", "b"], ["c"]], [], [Labelled("p", "a"), Labelled("q", "b"), Labelled("r", "c")])
    first = Scores("ab", np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.4]], dtype=np.float32))
    second = Scores("abc", np.array([[0.3, 0.1, 0.6], [0.1, 0.7, 0.2], [0.1, 0.1, 0.8]], dtype=np.float32))
    found = summary([examine(course, 0, first, 1.0), examine(course, 1, second, 3.0)])
    assert found["accuracy_by_step"] == [100.0, pytest.approx(200 / 3)]
    assert (found["bwt"], found["classic_forgetting"], found["cumulative_forgetting"]) == (-50.0, 50.0, 0.0)
    assert found["seconds_per_step"] == 2.0


def test_the_paired_test_counts_what_only_one_got_right() -> None:
    one, other = np.array([True] * 10 + [False]), np.array([False] * 10 + [True])
    assert mcnemar(one, other) == {"only_this": 10, "only_other": 1, "p": pytest.approx(24 / 2**11)}
    assert mcnemar(one, one)["p"] == 1.0


def test_every_class_comes_once_and_no_test_text_teaches(tmp_path: Path) -> None:
    split = invented_split(7, 5, 3, random.Random(1))
    course = draw(split, 3, random.Random(2))
    assert sorted(label for step in course.steps for label in step) == split.labels
    assert {len(step) for step in course.steps} <= {2, 3}
    (tmp_path / "clinc150").mkdir()
    parts = {"train": [["A  b", "x"], ["c", "y"]], "test": [["a B", "x"]]}
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps(parts))
    assert load_split("clinc150", tmp_path) == Split("clinc150", [Labelled("c", "y")], [Labelled("a B", "x")])


def test_a_section_replaces_its_own_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    for name, text in (("b2", "two"), ("b1", "one"), ("b2", "new two")):
        write_section(page, name, text)
    found = page.read_text()
    assert found.index("<!-- b1 -->\none\n<!-- /b1 -->") < found.index("<!-- b2 -->\nnew two\n<!-- /b2 -->")
    assert found.count("two") == 1
