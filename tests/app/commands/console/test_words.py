"""What `pawl versions N` and `pawl status` say of a lexical head."""

from __future__ import annotations

import pytest

from app.commands.console.terminal import words_in_a_sentence

_WORDS = {"words": 0.3, "semantic": 0.8, "lexical": 0.2, "threshold": 0.4, "share": 0.42, "loss": 0.0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "words 0.3, 42 % answered by words at a loss of 0.0 points"),
        ({"loss": 0.1, "share": 0.615}, "words 0.3, 62 % answered by words at a loss of 0.1 points"),
        ({"threshold": None, "share": None}, "words 0.3, none answered by words alone"),
        ({"threshold": None, "share": None, "loss": None}, "words 0.3, none answered by words alone (off)"),
        ({"semantic": 0.0, "lexical": 1.0}, "all answered by words: there is no other head"),
    ],
)
def test_one_sentence_says_what_words_do(changes: dict[str, object], sentence: str) -> None:
    assert words_in_a_sentence(_WORDS | changes) == sentence
