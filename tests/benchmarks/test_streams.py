"""Streams: what is planned is what comes, dated events come by date, and their measures measure right."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import Labelled
from benchmarks.harness import RESULTS, machine, save
from benchmarks.learning import b4
from benchmarks.learning.answers import Questions, Scores
from benchmarks.learning.data import VALIDATION, invented_split, load_events, load_split
from benchmarks.learning.merging import merged_in_groups
from benchmarks.learning.prequential import serve
from benchmarks.learning.production import ATTACKER, VARIANTS, Size, plan
from benchmarks.learning.program import read_options

SMALL = Size(requests=240, bootstrap=5, delay=20, burst=8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stream_is_what_it_says(variant: str) -> None:
    split = invented_split(12, 40, 2, random.Random(1))
    stream = plan(split, variant, SMALL, 3)
    sent = [(at, one) for at, some in stream.deliveries.items() for one in some]
    honest = [(at, one) for at, one in sent if one.source != ATTACKER]
    texts = [row.text for row in (*stream.bootstrap, *stream.requests)]
    texts += [one.text for _, one in sent if one.request is None]
    assert len(texts) == len(set(texts)), "no text comes twice"
    assert {row.label for row in stream.requests[:20]} <= set(stream.known)
    assert len(stream.known) == 6
    assert sorted(stream.known + stream.new) == split.labels
    assert all(at == one.request + 20 and stream.requests[one.request].text == one.text for at, one in honest)  # type: ignore[operator,index] # each is for a request
    wrong = sum(one.label != one.truth for _, one in honest) / len(honest)
    assert {"stream": 0.02 < wrong < 0.25, "drip": wrong == 0.0, "pair_flip": 0.08 < wrong < 0.35}[variant]
    attack = [(at, one) for at, one in sent if one.source == ATTACKER]
    assert len(attack) == {"stream": 8, "drip": 1, "pair_flip": 0}[variant]
    assert all((one.label, one.truth) == (stream.target, stream.victim) for _, one in attack)
    if variant == "stream":
        assert all(180 <= at < 220 for at, _ in attack)


@pytest.mark.parametrize("variant", VARIANTS)
def test_at_its_best_the_same_requests_get_right_labels_at_once(variant: str) -> None:
    stream = plan(invented_split(12, 40, 2, random.Random(1)), variant, SMALL, 3)
    best = stream.at_its_best()
    assert best.requests == stream.requests
    assert best.attack_at is None
    honest = [one.request for some in stream.deliveries.values() for one in some if one.source != ATTACKER]
    sent = [(at, one) for at, some in best.deliveries.items() for one in some]
    assert sorted(one.request for _, one in sent) == sorted(honest)  # type: ignore[type-var] # each is for a request
    for at, one in sent:
        assert at == one.request
        assert one.label == one.truth == stream.requests[at].label


def test_choices_are_made_on_validation_texts_and_leave_the_results_alone(tmp_path: Path) -> None:
    (tmp_path / "clinc150").mkdir()
    parts = {"train": [["a", "x"], ["b", "y"]], "val": [["c", "x"], ["d", "y"]], "test": [["e", "x"]]}
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps(parts))
    found = load_split(VALIDATION, tmp_path)
    assert (len(found.train), [row.text for row in found.test]) == (2, ["c", "d"])
    [label] = found.part(1, random.Random(0)).labels
    assert {row.label for row in found.part(1, random.Random(0)).test} == {label}
    measured, chosen_on = (read_options("b6", "", ["--split", name], splits=("a", "b")) for name in ("a", "b"))
    assert measured.results == RESULTS
    assert RESULTS not in (chosen_on.results, *chosen_on.results.parents)


def test_a_stream_that_is_measured_alone_leaves_the_other_in_the_results(tmp_path: Path) -> None:
    given = read_options("b4", "", ["--only", "b", f"--results={tmp_path}"], parts=("a", "b"))
    assert given.only == "b"

    def ran(accuracy: float) -> dict[str, Any]:
        return {"pawl": {"title": "Pawl", "runs": [{"seed": 0, "accuracy": accuracy}]}}

    save("learning_b4", given.settings, {"streams": {"a": ran(1.0), "b": ran(2.0)}}, machine(), tmp_path)
    found = merged_in_groups(given, {}, "streams", {"b": ran(3.0)})
    assert {name: [run["accuracy"] for run in rows["pawl"]["runs"]] for name, rows in found.items()} == {
        "a": [1.0],
        "b": [3.0],
    }


async def test_a_stream_is_predicted_before_it_is_learned() -> None:
    class Parrot:
        """Knows the label of every text it was taught, and else says `nothing`."""

        def __init__(self) -> None:
            self.taught: dict[str, str] = {}

        async def learn(self, rows: Any) -> None:
            self.taught |= {row.text: row.label for row in rows}

        async def rest(self) -> None:
            pass

        async def scores(self, questions: Questions) -> Scores:
            labels = ["nothing", *sorted(set(self.taught.values()))]
            answers = [self.taught.get(text, "nothing") for text in questions.texts]
            return Scores(labels, np.array([[float(one == label) for label in labels] for one in answers]))

    split = invented_split(12, 40, 2, random.Random(1))
    found = await serve(Parrot(), plan(split, "stream", SMALL, 3), split, lambda _: None)
    assert found["prequential"] == 0.0
    assert found["new_classes_reached"] == 0
    assert found["victim_max_drop"] == 0.0


def test_tweets_come_by_time(tmp_path: Path) -> None:
    (tmp_path / "us_airline_tweets").mkdir()
    rows = ["text,airline_sentiment,tweet_created", "late caf\x8e,negative,42059.5", "early,positive,42051.25"]
    (tmp_path / "us_airline_tweets" / "Tweets.csv").write_bytes("\n".join(rows).encode("latin-1"))
    early, late = load_events("us_airline_tweets", tmp_path)
    assert (early.row, late.row) == (Labelled("early", "positive"), Labelled("late café", "negative"))
    assert early.at.isoformat() == "2015-02-16T06:00:00+00:00"


def test_news_with_one_topic_come_by_date(tmp_path: Path) -> None:
    def news(number: int, date: str, topics: str, body: str) -> str:
        return (
            f'<REUTERS TOPICS="YES" NEWID="{number}">\n<DATE>{date}</DATE>\n<TOPICS>{topics}</TOPICS>\n'
            f"<TEXT>&#2;\n<TITLE>A &lt;B></TITLE><BODY>{body}\n</BODY></TEXT>\n</REUTERS>\n"
        )

    text = (
        news(1, "20-OCT-1987 15:01:01.79", "<D>grain</D>", "x" * 2000)
        + news(2, "26-FEB-1987 15:01:01.79", "<D>cocoa</D>", "up\nand up")
        + news(3, "31-MAR-1987 605:12:19.12", "<D>earn</D>", "profit")
        + news(4, "27-FEB-1987 15:01:01.79", "<D>cocoa</D><D>coffee</D>", "two topics")
        + news(5, "27-FEB-1987 15:01:01.79", "", "none")
    )
    (tmp_path / "reuters21578").mkdir()
    with tarfile.open(tmp_path / "reuters21578" / "reuters21578_sgm.tar.xz", "w:xz") as archive:
        member = tarfile.TarInfo("reut2-000.sgm")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode("latin-1")))
    events = load_events("reuters21578", tmp_path)
    assert [event.row.label for event in events] == ["cocoa", "earn", "grain"]
    assert events[0].row.text == "A <B>. up and up"
    assert len(events[2].row.text) == 1000


def test_a_learner_is_compared_with_what_it_was_over_windows_and_deciles() -> None:
    frozen = np.ones(1000, dtype=bool)
    right = frozen.copy()
    right[400:450] = False
    found = b4.measures(right, frozen)
    assert found["lowest_against_frozen"] == -10.0
    assert found["deciles"][4] == 50.0
    assert found["accuracy"] == 95.0
