"""Texts that words never answer alone follow what is learned and what leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pawl.classifier.lexical_head import kept_number
from pawl.domain.samples import Origin, Sample, SampleState, Split, digest_text
from worker.state import words_rules
from worker.state.words_rules import KeptTexts


def sample_of(text: str, **options: Any) -> Sample:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "id": f"fb_{text}", "seq": 1, "task": "default", "text": text, "text_digest": digest_text(text), "label": "a",
        "weight": 1.0, "source": None, "origin": Origin.FEEDBACK, "prediction_id": None, "served_version": None,
        "served_label": None, "split": Split.TRAIN, "pinned": False, "state": SampleState.LEARNED, "reason": None,
        "learned_in_version": 1, "retract_requested": False, "created_at": now, "updated_at": now,
    }  # fmt: skip
    return Sample(**fields | options)


texts = st.sampled_from(["a", "b", "c", "d", "e"])


@given(st.lists(st.tuples(st.lists(texts, max_size=3), st.lists(texts, max_size=3)), max_size=8))
def test_they_are_what_a_set_would_hold(steps: list[tuple[list[str], list[str]]]) -> None:
    kept, expected = KeptTexts(), set[str]()
    for adds, leaving in steps:
        kept = kept.after([sample_of(text) for text in adds], [digest_text(text) for text in leaving])
        expected = (expected - set(leaving)) | set(adds)
    assert kept.numbers.tolist() == sorted(kept_number(digest_text(text)) for text in expected)
    assert kept.numbers.dtype == np.uint64


@pytest.mark.parametrize(
    ("options", "is_in"),
    [
        ({"origin": Origin.FEEDBACK}, True),
        ({"origin": Origin.IMPORT}, False),
        ({"origin": Origin.IMPORT, "pinned": True}, True),
        ({"origin": Origin.IMPORT, "state": SampleState.GOLDEN}, True),
    ],
)
def test_who_said_it_decides(options: dict[str, Any], *, is_in: bool) -> None:
    assert len(KeptTexts().after([sample_of("a", **options)], []).numbers) == is_in


def test_beyond_the_limit_there_are_too_many_whatever_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_rules, "KEPT_LIMIT", 2)
    kept = KeptTexts().after([sample_of(text) for text in "abc"], [])
    assert kept.too_many
    assert kept.after([], [digest_text(text) for text in "abc"]).too_many
