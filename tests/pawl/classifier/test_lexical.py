"""Lexical features: what a gram is, that the hash never moves, and rows that depend on their text alone."""

from __future__ import annotations

import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.classifier.lexical import LONGEST, LexicalFeatures
from pawl.ports import Floats

FEATURES = LexicalFeatures(256)
TEXTS = st.lists(st.text(max_size=30) | st.text("aB ,ß\u0301漢", max_size=30), max_size=6)
_MASK = 2**64 - 1


def _polynomial(text: str) -> int:
    value = 0
    for character in text:
        spread = ord(character) * 0xFF51AFD7ED558CCD & _MASK
        value = value * 0x9E3779B97F4A7C15 + (spread ^ spread >> 32) & _MASK
    return value


def _grams(text: str) -> list[int]:
    """The grams of a text that is normalised already, one at a time."""
    padded = f" {text} "
    runs = [padded[i : i + n] for n in (1, 2, 3, 4) for i in range(len(padded) - n + 1)]
    grams = [_polynomial(run) for run in runs if len(run) < 3 or not _is_east_asian(run)]
    kinds = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in padded)
    words = kinds.split()
    grams += [_polynomial(word[::-1]) ^ 0xD6E8FEB86659FD93 for word in words if not _is_east_asian(word)]
    pairs = [(_polynomial(a[::-1]), _polynomial(b[::-1])) for a, b in pairwise(words) if not _is_east_asian(a + b)]
    return grams + [a * 0xA0761D6478BD642F + b & _MASK for a, b in pairs]


def _is_east_asian(run: str) -> bool:
    return any(0x2E80 <= ord(c) < 0xA4D0 or ord(c) >= 0x20000 for c in run)


def _row(text: str, size: int) -> Floats:
    counts: Counter[int] = Counter()
    for gram in _grams(text):
        key = ((gram ^ gram >> 32) * 0xBF58476D1CE4E5B9 & _MASK) >> (64 - size.bit_length())
        counts[key >> 1] += 1 - 2 * (key & 1)
    row = np.array([counts[column] for column in range(size)], dtype=np.float64)
    values: Floats = np.copysign(np.sqrt(np.abs(row) / np.abs(row).sum()), row).astype(np.float32)
    return values


@pytest.mark.parametrize("size", [64, 4096, 65536])
@pytest.mark.parametrize(
    "text",
    [
        *("x", "my card, my card!", "नमस्ते दुनिया", "信用卡 被拒绝。", "don't 😀👍🏽 4-ever"),
        *("我的 visa card 卡 is 被拒 x y", "카드 거절", "𠀀 カード"),
    ],
)
def test_a_row_counts_characters_and_words_by_their_definition(text: str, size: int) -> None:
    np.testing.assert_array_equal(LexicalFeatures(size).expand([text])[0], _row(text, size))


def test_the_hash_is_the_same_for_ever() -> None:
    rows = LexicalFeatures(4096).sparse(["Card", "卡"])
    assert rows.starts.tolist() == [0, 18, 22]
    assert rows.columns.tolist() == [
        42,
        903,
        987,
        2084,
        2180,
        2339,
        2426,
        2602,
        2748,
        2749,
        2868,
        3129,
        3423,
        3444,
        3680,
        3776,
        3861,
        3916,
        1817,
        3091,
        3483,
        3861,
    ]
    np.testing.assert_allclose(
        rows.values,
        [
            -0.2294157,
            0.2294157,
            -0.2294157,
            -0.2294157,
            0.2294157,
            0.2294157,
            0.2294157,
            -0.2294157,
            -0.2294157,
            -0.2294157,
            0.2294157,
            0.2294157,
            -0.2294157,
            -0.2294157,
            -0.2294157,
            -0.2294157,
            -0.3244428,
            -0.2294157,
            0.4472136,
            0.4472136,
            -0.4472136,
            -0.6324555,
        ],
        atol=1e-7,
    )


@given(texts=TEXTS)
def test_rows_have_norm_1_or_are_of_texts_without_a_character(texts: list[str]) -> None:
    rows = FEATURES.expand(texts)
    assert rows.shape == (len(texts), FEATURES.width)
    expected = [1.0 if text.split() else 0.0 for text in texts]
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), expected, atol=1e-6)


@given(texts=TEXTS, seed=st.integers(0, 99))
def test_a_text_gives_the_same_bytes_alone_and_in_a_batch(texts: list[str], seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((FEATURES.width, 5), dtype=np.float32)
    batch, alone = FEATURES.sparse(texts), [FEATURES.sparse([text]) for text in texts]
    assert [batch.dense()[i].tobytes() for i in range(len(texts))] == [each.dense().tobytes() for each in alone]
    assert [batch.scores(weights)[i].tobytes() for i in range(len(texts))] == [
        each.scores(weights).tobytes() for each in alone
    ]
    assert FEATURES.expand(texts).tobytes() == batch.dense().tobytes()


@given(text=st.text(max_size=30), other=st.text(max_size=30))
def test_scores_are_the_product_of_the_rows(text: str, other: str) -> None:
    weights = np.random.default_rng(len(text)).standard_normal((FEATURES.width, 3), dtype=np.float32)
    rows = FEATURES.sparse([text, other])
    np.testing.assert_allclose(rows.scores(weights), rows.dense() @ weights, atol=1e-5)
    np.testing.assert_allclose(rows.weighted_squares(weights[:, 0]), rows.dense() ** 2 @ weights[:, 0], atol=1e-5)


@given(text=st.text(max_size=30))
def test_normal_forms_of_a_text_are_one_text(text: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    assert len({row.tobytes() for row in FEATURES.expand([text, *forms])}) == 1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("My  CARD\t", "my card"),
        ("STRASSE", "straße"),
        ("\uff23\uff41\uff52\uff44\u3000\uff11", "card 1"),  # fullwidth
        ("\ufb01ne", "fine"),
    ],
)
def test_case_width_and_blanks_do_not_count(text: str, same: str) -> None:
    np.testing.assert_array_equal(*FEATURES.expand([text, same]))


def test_order_counts_and_a_word_is_not_its_characters() -> None:
    rows = LexicalFeatures(4096).expand(["dog bites man", "man bites dog", "dogbitesman"])
    assert float(rows[0] @ rows[1]) < 0.95
    assert float(rows[0] @ rows[2]) < 0.95


def test_lone_surrogates_have_rows() -> None:
    rows = FEATURES.expand(["\ud800", "a\udfffb", "\U0010ffff"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("letter", ["a", "\u00e9", "e\u0301"])
def test_of_a_very_long_text_the_beginning_is_read(letter: str) -> None:
    words = f"{letter}b "
    read = unicodedata.normalize("NFC", words * LONGEST)[:LONGEST]
    long = words * (2**20 // len(words))
    rows = FEATURES.expand([read, long, read + "z" * 100])
    assert rows[0].tobytes() == rows[1].tobytes() == rows[2].tobytes()


@settings(max_examples=10)
@given(count=st.integers(1, 5))
def test_a_batch_longer_than_its_tables_is_read_in_parts(count: int) -> None:
    texts = [f"{number} " + "word and word " * 500 for number in range(count)]
    assert FEATURES.expand(texts).tobytes() == b"".join(FEATURES.expand([text]).tobytes() for text in texts)


@pytest.mark.parametrize("size", [0, 32, 100, 4095, 2**17])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        LexicalFeatures(size)
