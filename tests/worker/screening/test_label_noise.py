"""The screen alone: what it holds, what it lets through, and that neither order nor size gets around it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.domain.quarantine import Doubt, QuarantineKind
from pawl.settings import Settings
from worker.screening.label_noise import NoiseDetector
from worker.screening.observations import ArrivingLabel, Confusion, NoiseVerdict, RememberedLabel

SETTINGS = Settings(quarantine_window=300)
LABELS = [f"label-{n}" for n in range(20)]
COUNTS = dict.fromkeys(LABELS, 100)
FLOOR = SETTINGS.quarantine_flow_floor


def sharp(_answer: str, _label: str) -> Confusion:
    return Confusion(items=30, errors=1, opposed=0, usual=0.15)


def arrival(
    number: int,
    label: str,
    answer: str | None = None,
    *,
    source: str | None = None,
    margin: float = 0.8,
    neighbours: Sequence[str] | None = None,
    rank: int = 9,
    gold: str | None = None,
    direction: int | None = None,
) -> ArrivingLabel:
    """A confirmation, or with an `answer` a label that head and neighbours contradict."""
    says = answer or label
    z = np.zeros(400, np.float32)
    z[number % 400 if direction is None else direction] = 1.0
    near = tuple(neighbours) if neighbours is not None else (says,) * 5
    different = says != label
    return ArrivingLabel(
        f"s{number}", source, label, says, margin if different else 0.0, rank if different else 0, near, z, gold
    )


def honest(count: int, start: int = 0, source: str | None = None) -> list[ArrivingLabel]:
    return [arrival(start + n, LABELS[n % len(LABELS)], source=source) for n in range(count)]


def flow(count: int, start: int = 1000, source: str | None = None, label: str = LABELS[1]) -> list[ArrivingLabel]:
    return [arrival(start + n, label, LABELS[0], source=source) for n in range(count)]


def judge(screen: NoiseDetector, arrivals: Sequence[ArrivingLabel]) -> NoiseVerdict:
    return screen.judge(arrivals, COUNTS, sharp)


def test_a_burst_in_one_batch_is_held_whole() -> None:
    screen = NoiseDetector(SETTINGS)
    judge(screen, honest(200))
    verdict = judge(screen, flow(80))
    assert len(verdict.holds) == 80
    assert {one.kind for one in verdict.holds.values()} == {QuarantineKind.FLOW}
    assert "80 of the last 280 labels from unnamed sources turn label-0 into label-1" in verdict.holds["s1000"].reason


def test_a_burst_one_by_one_is_held_from_the_floor_on_and_what_was_learned_of_it_is_pulled() -> None:
    screen = NoiseDetector(SETTINGS)
    judge(screen, honest(200))
    held: list[str] = []
    for number, one in enumerate(flow(40), 1):
        verdict = judge(screen, [one])
        held += verdict.holds
        if number < FLOOR:
            assert not verdict.holds
        if len(held) == 1:
            assert set(verdict.pulls) == {f"s{1000 + n}" for n in range(number - 1)}
    assert len(held) >= 40 - FLOOR - 3


@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12))
@settings(max_examples=30)
def test_no_order_and_no_cutting_into_batches_lets_a_burst_through(seed: int, sizes: list[int]) -> None:
    """Of 40 wrong labels among 160 right ones none is in the head at the end but fewer than a flow needs."""
    everything = honest(160) + flow(40)
    random.Random(seed).shuffle(everything)
    screen, learned, rest = NoiseDetector(SETTINGS), set[str](), list(everything)
    while rest:
        size = sizes[len(rest) % len(sizes)]
        batch, rest = rest[:size], rest[size:]
        verdict = judge(screen, batch)
        learned |= {one.sample_id for one in batch} - verdict.holds.keys()
        learned -= verdict.pulls.keys()
    assert not learned & {one.sample_id for one in flow(40)}
    assert learned == {one.sample_id for one in honest(160)}


@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 19)), max_size=50), max_size=12))
@settings(max_examples=40)
def test_confirmations_are_never_held_and_the_window_is_bounded(batches: list[list[tuple[int, int]]]) -> None:
    screen = NoiseDetector(Settings(quarantine_window=50))
    for batch in batches:
        verdict = screen.judge([arrival(n, LABELS[at], source=f"{n % 3}") for n, at in batch], COUNTS, sharp)
        assert verdict == NoiseVerdict()
        assert len(screen) <= 50


def test_scattered_mistakes_are_no_flow() -> None:
    screen, chance = NoiseDetector(SETTINGS), random.Random(1)
    for n in range(300):
        wrong = n % 10 == 0
        says, label = chance.sample(LABELS, 2)
        assert not judge(screen, [arrival(n, label, says if wrong else None)]).holds


def test_what_the_panel_confuses_itself_explains_a_flow() -> None:
    def blurred(_answer: str, _label: str) -> Confusion:
        return Confusion(items=30, errors=8, opposed=6, usual=0.15)

    screen = NoiseDetector(SETTINGS)
    batch = honest(200) + [arrival(500 + n, LABELS[1]) for n in range(20)] + flow(2 * FLOOR)
    assert not screen.judge(batch, COUNTS, blurred).holds
    assert judge(NoiseDetector(SETTINGS), batch).holds


def test_what_a_convicted_source_gave_the_label_afterwards_is_held_although_the_head_agrees() -> None:
    """It agrees because it had learned the first of them."""
    screen = NoiseDetector(SETTINGS)
    before = [arrival(n, LABELS[1], source="partner") for n in range(3)]
    first = flow(FLOOR - 1, source="partner")
    agreed = [arrival(100 + n, LABELS[1], source="partner") for n in range(5)]
    elsewhere = [arrival(200 + n, LABELS[2], source="partner") for n in range(5)]
    assert judge(screen, [*before, *first, *agreed, *elsewhere]) == NoiseVerdict(
        doubts={one.sample_id: Doubt(LABELS[0], True, False) for one in first}
    )
    verdict = judge(screen, flow(2 * FLOOR, 2000, source="partner"))
    assert len(verdict.holds) == 2 * FLOOR
    assert verdict.pulls.keys() == {one.sample_id for one in (*first, *agreed)}


@pytest.mark.parametrize(("usual", "held"), [(0.1, 20), (0.25, 20), (0.5, 0)])
def test_a_label_without_errors_on_the_panel_is_taken_to_have_the_usual_ones(usual: float, held: int) -> None:
    """Of many labels and sources, where a burst of 20 is no more than what half of a source's mistakes explains."""

    def flawless(_answer: str, _label: str) -> Confusion:
        return Confusion(items=30, errors=0, opposed=0, usual=usual)

    counts = COUNTS | {f"other-{n}": 100 for n in range(57)}
    screen = NoiseDetector(SETTINGS)
    screen.judge([one for n in range(50) for one in honest(4, 4 * n, source=f"user-{n}")], counts, flawless)
    burst = [arrival(500 + n, LABELS[1], LABELS[0], source="partner", rank=2) for n in range(20)]
    assert len(screen.judge(burst, counts, flawless).holds) == held


def test_a_label_may_take_from_others_while_it_is_young() -> None:
    young = COUNTS | {"new": SETTINGS.quarantine_established - 1}
    screen = NoiseDetector(SETTINGS)
    verdict = screen.judge(flow(40, label="new"), young, sharp)
    assert verdict == NoiseVerdict()
    grown = COUNTS | {"new": SETTINGS.quarantine_established}
    assert len(NoiseDetector(SETTINGS).judge(flow(20, label="new"), grown, sharp).holds) == 20


def test_a_held_burst_does_not_make_its_label_young_for_the_rest_of_the_burst() -> None:
    screen, grown = NoiseDetector(SETTINGS), COUNTS | {"new": SETTINGS.quarantine_established + 14}
    for start in range(1000, 1080, 15):
        verdict = screen.judge(flow(15, start, label="new"), grown, sharp)
        assert len(verdict.holds) == 15


@pytest.mark.parametrize(
    "change", [{"margin": 0.1}, {"neighbours": [LABELS[0]] * 4 + [LABELS[1]]}, {"neighbours": [LABELS[0]] * 2}]
)
def test_a_close_call_opposes_nothing(change: dict[str, object]) -> None:
    batch = [arrival(1000 + n, LABELS[1], LABELS[0], **change) for n in range(40)]  # type: ignore[arg-type]  # one field
    assert not judge(NoiseDetector(SETTINGS), batch).holds


def test_a_flow_of_one_source_does_not_take_another_sources_labels_along() -> None:
    screen = NoiseDetector(SETTINGS)
    judge(screen, honest(100, source="ann") + honest(100, 100, source="eve"))
    verdict = judge(screen, [*flow(20, source="eve"), *flow(2, 2000, source="ann")])
    assert set(verdict.holds) == {f"s{1000 + n}" for n in range(20)}
    assert "20 of the last 120 labels from `eve`" in verdict.holds["s1000"].reason


def test_a_flow_shared_out_among_sources_is_held_too() -> None:
    screen = NoiseDetector(SETTINGS)
    judge(screen, honest(200, source="ann"))
    batch = [arrival(1000 + n, LABELS[1], LABELS[0], source=f"bot-{n}") for n in range(20)]
    verdict = judge(screen, batch)
    assert len(verdict.holds) == 20
    assert "from all sources" in verdict.holds["s1000"].reason


def test_what_reviewers_release_speaks_for_no_flow_any_more() -> None:
    screen = NoiseDetector(SETTINGS)
    judge(screen, honest(200))
    assert len(judge(screen, flow(10)).holds) == 10
    screen.clear([f"s{1000 + n}" for n in range(10)])
    assert screen.suspects == set()
    assert not judge(screen, flow(1, 2000)).holds


def test_a_source_of_nonsense_is_held_whole_and_an_unnamed_one_is_not() -> None:
    def nonsense(source: str | None) -> list[ArrivingLabel]:
        chance = random.Random(2)
        pairs = [chance.sample(LABELS, 2) for _ in range(40)]
        return [arrival(n, label, says, source=source) for n, (label, says) in enumerate(pairs)]

    verdict = judge(NoiseDetector(SETTINGS), nonsense("bot"))
    assert len(verdict.holds) == 40
    assert {one.kind for one in verdict.holds.values()} == {QuarantineKind.SOURCE}
    assert "labels from `bot`" in verdict.holds["s0"].reason
    assert not judge(NoiseDetector(SETTINGS), nonsense(None)).holds


def test_a_source_that_only_corrects_but_plausibly_keeps_its_trust() -> None:
    """Every label of it contradicts the model: that is what corrections are for."""
    chance, batch = random.Random(3), []
    for n in range(100):
        label, says = chance.sample(LABELS, 2)
        batch.append(arrival(n, label, says, source="reviewer", rank=1 if n % 6 else 9, margin=0.1))
    assert not judge(NoiseDetector(SETTINGS), batch).holds


def test_a_held_source_gets_its_trust_back_by_right_labels() -> None:
    screen, chance = NoiseDetector(SETTINGS), random.Random(4)
    bad = [arrival(n, label, says, source="bot") for n in range(30) for label, says in [chance.sample(LABELS, 2)]]
    judge(screen, bad)
    assert judge(screen, honest(1, 500, "bot")).holds
    judge(screen, honest(60, 600, "bot"))
    assert not judge(screen, honest(1, 900, "bot")).holds


def test_gold_counts_against_a_source_where_the_model_agrees_with_it() -> None:
    batch = [arrival(n, LABELS[n % 20], source="bot", gold="label-x") for n in range(40)]
    assert len(judge(NoiseDetector(SETTINGS), batch).holds) == 40


def test_near_duplicates_with_one_contradicting_label_are_held_below_the_floor_of_flows() -> None:
    count = SETTINGS.quarantine_duplicates
    assert count < FLOOR
    answers = [LABELS[2 + n] for n in range(count)]
    batch = [arrival(n, LABELS[1], answers[n], direction=7) for n in range(count)]
    verdict = judge(NoiseDetector(SETTINGS), batch)
    assert {one.kind for one in verdict.holds.values()} == {QuarantineKind.DUPLICATES}
    assert len(verdict.holds) == count
    apart = [arrival(n, LABELS[1], answers[n]) for n in range(count)]
    assert not judge(NoiseDetector(SETTINGS), apart).holds


def test_the_same_batch_again_counts_once_and_a_window_made_anew_judges_the_same() -> None:
    screen = NoiseDetector(SETTINGS)
    judge(screen, honest(200))
    for _ in range(5):
        assert not judge(screen, flow(FLOOR - 1)).holds
    doubts = judge(screen, flow(FLOOR - 1)).doubts
    vectors = {one.sample_id: one.z for one in flow(FLOOR - 1)}
    seen = [RememberedLabel(one.sample_id, one.source, one.label, None) for one in honest(200)]
    seen += [RememberedLabel(id, None, LABELS[1], doubt, vectors[id]) for id, doubt in doubts.items()]
    assert judge(NoiseDetector(SETTINGS, seen), flow(10, 2000)) == judge(screen, flow(10, 2000))


def test_a_cap_holds_without_a_test() -> None:
    def blurred(_answer: str, _label: str) -> Confusion:
        return Confusion(items=10, errors=10, opposed=10, usual=1.0)

    batch = honest(200) + flow(20)
    assert not NoiseDetector(SETTINGS).judge(batch, COUNTS, blurred).holds
    capped = Settings(quarantine_window=300, quarantine_flow_cap=20)
    assert len(NoiseDetector(capped).judge(batch, COUNTS, blurred).holds) == 20
