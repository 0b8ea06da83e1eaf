"""Of several labels for one text the newest counts, in whatever order and batches they arrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pawl.domain.samples import Origin, Sample, SampleState, Split
from worker.screening.conflict_resolution import resolve_conflicts

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sample(
    seq: int, text: str, label: str, state: SampleState = SampleState.QUEUED, *, retract: bool = False
) -> Sample:
    return Sample(
        id=f"fb_{seq}", seq=seq, task="default", text=text, text_digest=text, label=label, weight=1.0, source=None,
        origin=Origin.FEEDBACK, prediction_id=None, served_version=None, served_label=None, split=Split.TRAIN,
        pinned=False, state=state, reason=None, learned_in_version=None, retract_requested=retract,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def test_a_newer_label_replaces_a_learned_one() -> None:
    old = sample(1, "t", "a", SampleState.LEARNED)
    new = sample(2, "t", "b")
    resolution = resolve_conflicts([new], [old])
    assert resolution.adds == [new]
    assert resolution.removes(resolution.adds) == {"fb_1": old}
    assert resolution.dropped == {}


def test_an_older_label_that_comes_late_is_dropped() -> None:
    resolution = resolve_conflicts([sample(1, "t", "a")], [sample(2, "t", "b", SampleState.LEARNED)])
    assert resolution.adds == []
    assert resolution.dropped == {"fb_1": "fb_2"}


def test_final_states_and_repeats_are_passed_over() -> None:
    one = sample(1, "t", "a")
    done = [sample(n, f"u{n}", "a", state) for n, state in enumerate(SampleState, 2) if state is not SampleState.QUEUED]
    resolution = resolve_conflicts([one, one, *done], [])
    assert resolution.adds == [one]
    assert resolution.retractions == []


def test_a_retraction_leaves_once_even_when_replaced_in_the_same_batch() -> None:
    old = sample(1, "t", "a", SampleState.LEARNED, retract=True)
    other = sample(3, "u", "a", SampleState.LEARNED, retract=True)
    resolution = resolve_conflicts([old, other, sample(2, "t", "b")], [])
    assert resolution.retractions == [other]
    assert set(resolution.removes(resolution.adds)) == {"fb_1"}


@given(
    labels=st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("ab")), min_size=1, max_size=12),
    data=st.data(),
)
def test_the_newest_label_of_each_text_wins_in_any_order_and_batching(
    labels: list[tuple[str, str]], data: st.DataObject
) -> None:
    store = {n: sample(n, text, label) for n, (text, label) in enumerate(labels, 1)}
    waiting = data.draw(st.permutations(sorted(store)))
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batch, waiting = [store[n] for n in waiting[:size]], waiting[size:]
        texts = {s.text_digest for s in batch}
        rivals = [s for s in store.values() if s.text_digest in texts and s not in batch]
        resolution = resolve_conflicts(
            batch, [s for s in rivals if s.state in (SampleState.QUEUED, SampleState.LEARNED)]
        )
        for added in resolution.adds:
            store[added.seq] = replace(added, state=SampleState.LEARNED)
        for gone in (*resolution.removes(resolution.adds).values(), *(store[int(i[3:])] for i in resolution.dropped)):
            store[gone.seq] = replace(gone, state=SampleState.RETRACTED)
    newest = {text: seq for seq, (text, _) in enumerate(labels, 1)}
    assert {s.seq for s in store.values() if s.state is SampleState.LEARNED} == set(newest.values())
