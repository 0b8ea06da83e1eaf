"""Which samples a consolidation trains on."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pawl.domain.samples import Split, digest_text, split_of
from worker.consolidation.data.replay import SampleRef, at_most_per_class, balanced, coreset, select, stratified

_TASKS = ("sentiment", "topic")


@st.composite
def _stores(draw: st.DrawFn) -> list[SampleRef]:
    """A store in which a text may have labels in two tasks; splits follow the text, as in the real one."""
    count = draw(st.integers(0, 120))
    candidates = []
    for number in range(count):
        text = f"text {draw(st.integers(0, 80))}"
        task, label = draw(st.sampled_from(_TASKS)), draw(st.sampled_from("abcd"))
        digest = digest_text(text)
        candidates.append(SampleRef(f"fb_{number}", task, label, digest, split_of(digest, 0.3)))
    return candidates


@given(
    learned=_stores(), data=st.data(), limit=st.integers(0, 60), per_class=st.integers(0, 10), seed=st.integers(0, 9)
)
def test_held_out_and_golden_texts_are_never_trained_on(
    learned: list[SampleRef], data: st.DataObject, limit: int, per_class: int, seed: int
) -> None:
    ids, texts = [c.id for c in learned], sorted({c.text_digest for c in learned})
    seen = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    golden = data.draw(st.sets(st.sampled_from(texts))) if texts else set()
    chosen = select(
        learned,
        seen,
        golden,
        replay_per_class=per_class,
        validation_share=0.3,
        validation_limit=40,
        limit=limit,
        seed=seed,
    )
    everything = (*chosen.new, *chosen.replayed, *chosen.validation)
    assert all(c.split is Split.TRAIN and c.text_digest not in golden for c in everything)
    assert len({c.id for c in everything}) == len(everything)
    assert not {c.id for c in (*chosen.new, *chosen.validation)} & seen
    assert {c.id for c in chosen.replayed} <= seen
    trained_texts = {c.text_digest for c in (*chosen.new, *chosen.replayed)}
    assert not trained_texts & {c.text_digest for c in chosen.validation}
    assert len(chosen.new) + len(chosen.validation) <= limit
    assert all(n <= per_class for n in Counter((c.task, c.label) for c in chosen.replayed).values())


@given(learned=_stores(), limit=st.integers(0, 130), seed=st.integers(0, 9), order=st.randoms())
def test_balanced_gives_every_class_its_share_whatever_the_order(
    learned: list[SampleRef], limit: int, seed: int, order: object
) -> None:
    chosen = balanced(learned, limit, seed)
    shuffled = list(learned)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis gives a random.Random
    assert {c.id for c in balanced(shuffled, limit, seed)} == {c.id for c in chosen}
    assert len(chosen) == min(limit, len(learned))
    have = Counter((c.task, c.label) for c in learned)
    got = Counter((c.task, c.label) for c in chosen)
    largest = max(got.values(), default=0)
    # A class that was cut is at most one below the largest share: nobody gave up room that another class took.
    assert all(got[key] == have[key] or got[key] >= largest - 1 for key in have)


@given(learned=_stores(), limit=st.integers(1, 130), seed=st.integers(0, 9))
def test_coreset_is_whole_below_its_limit_and_full_above(learned: list[SampleRef], limit: int, seed: int) -> None:
    ids = coreset(learned, limit=limit, heldout_share=0.3, seed=seed)
    assert len(set(ids)) == len(ids)
    heldout = {c.id for c in learned if c.split is Split.HELDOUT}
    if len(learned) <= limit:
        assert set(ids) == {c.id for c in learned}
    else:
        assert len(heldout & set(ids)) == min(len(heldout), int(limit * 0.3))
        assert len(ids) == min(limit, len(heldout & set(ids)) + len(learned) - len(heldout))


def _class(label: str, count: int) -> list[SampleRef]:
    return [SampleRef(f"{label}{k}", "default", label, digest_text(f"{label} {k}"), Split.TRAIN) for k in range(count)]


def test_replay_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    store = [*_class("a", 300), *_class("b", 20)]
    first = at_most_per_class(store, 100, seed=1)
    assert Counter(c.label for c in first) == {"a": 100, "b": 20}
    assert at_most_per_class(list(reversed(store)), 100, seed=1) == first
    assert at_most_per_class(store, 100, seed=2) != first


def test_validation_takes_every_class_in_proportion() -> None:
    chosen = stratified([*_class("a", 600), *_class("b", 300), *_class("c", 100)], 0.1, 1000, seed=0)
    assert Counter(c.label for c in chosen) == {"a": 60, "b": 30, "c": 10}
    assert len(stratified(_class("a", 1000), 0.1, 50, seed=0)) == 50


def test_too_few_samples_are_all_trained_on() -> None:
    assert stratified(_class("a", 150), 0.1, 1000, seed=0) == []
