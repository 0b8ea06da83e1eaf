"""Which encoder is recommended, by what letters texts have and what the present one does not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pawl.domain.reading import ReadingTotals
from pawl.domain.scripts import ScriptShares, recommend_encoder, script_of

CHINESE = ["我的包裹到哪儿了", "怎么开发票", "帮我取消订单", "登录不上去", "退款什么时候到账"]
ENGLISH = [f"where is my parcel {n}" for n in range(5)]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("where is my card", "Latin letters"),
        ("", "Latin letters"),
        ("42 %", "Latin letters"),
        ("\N{GRINNING FACE}\N{GRINNING FACE}", "Latin letters"),
        ("Wo bleibt meine Überweisung", "accented Latin letters"),
        ("我的包裹到哪儿了啊", "Chinese"),
        ("iPhone 屏幕碎了怎么办", "Chinese"),
        ("iPhone screen 碎", "Latin letters"),
        ("荷物はどこですか", "Japanese"),
        ("카드가 아직 안 왔어요", "Korean"),
        ("где моя карта", "Cyrillic"),
        ("أين طلبي", "Arabic"),
    ],
)
def test_most_letters_decide(text: str, script: str) -> None:
    assert script_of(text) == script


@given(st.lists(st.text(max_size=20), max_size=20))
def test_shares_are_of_all_texts(texts: list[str]) -> None:
    scripts = ScriptShares.of(texts)
    assert scripts.texts == len(texts)
    assert sum(scripts.shares.values()) == pytest.approx(1.0 if texts else 0.0, abs=0.01)
    assert list(scripts.shares.values()) == sorted(scripts.shares.values(), reverse=True)


def test_an_encoder_is_recommended_by_name_where_the_present_one_does_not_read_the_texts() -> None:
    mixed = ScriptShares.of([*CHINESE, *ENGLISH[:3]])
    unread = ReadingTotals(texts=8, tokens=100, unknown=60)
    advice = recommend_encoder(mixed, unread, "small", words=True)
    assert advice is not None
    assert advice.encoder == "multilingual"
    for part in (
        "62% of the texts are mostly in Chinese",
        "'small' reads English",
        "60% of the tokens are unknown",
        "the words head carries them",
        "`pawl encoder set multilingual`",
    ):
        assert part in advice.sentence
    alone = recommend_encoder(mixed, unread, "sentence-transformers/all-MiniLM-L6-v2", words=False)
    assert alone is not None
    assert "words head carries" not in alone.sentence


def test_letters_tell_what_unknown_tokens_do_not() -> None:
    """An English vocabulary has all letters of Cyrillic, and spells words that it does not know in them."""
    advice = recommend_encoder(ScriptShares.of(["где моя карта"] * 9), ReadingTotals(9, 100, 0), "small", words=True)
    assert advice is not None
    assert "Cyrillic" in advice.sentence


@pytest.mark.parametrize(
    ("texts", "unknown", "encoder"),
    [
        (ENGLISH, 0, "small"),
        (CHINESE, 0, "multilingual"),
        (CHINESE, 0, "intfloat/multilingual-e5-small"),
        (CHINESE, 0, "none"),
        (CHINESE, 0, "/a/folder/of/ones/own"),
        ([*ENGLISH * 4, *CHINESE[:2]], 0, "small"),
        (CHINESE[:2], 0, "small"),
    ],
)
def test_nothing_is_recommended_where_it_is_read(texts: list[str], unknown: int, encoder: str) -> None:
    totals = None if encoder == "none" else ReadingTotals(len(texts), 100, unknown)
    assert recommend_encoder(ScriptShares.of(texts), totals, encoder, words=True) is None
