"""How much of a text an encoder reads: unknown tokens, and texts with more tokens than it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pawl.classifier.encoders.source import find_encoder
from pawl.classifier.encoders.spec import EncoderSpec
from pawl.classifier.encoders.tokenization import Encoded, TextTokenizer
from pawl.domain.reading import ReadingTotals, TextReading
from tests.tiny_encoder import exported_tiny_encoder

LONG = "where is my card " * 40


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    folder, _ = exported_tiny_encoder()
    return TextTokenizer(folder, EncoderSpec.from_file(folder / "encoder.json"))


def test_unknown_tokens_are_counted_and_special_ones_are_not(tokenizer: TextTokenizer) -> None:
    english, chinese, nothing = tokenizer.read(["where is my card", "你好 世界", ""])
    assert (english.tokens, english.unknown, english.cut) == (4, 0, None)
    assert (chinese.tokens, chinese.unknown) == (4, 4)
    assert (nothing.tokens, nothing.unknown, nothing.warnings) == (0, 0, ())
    assert english.warnings == ()
    [told] = chinese.warnings
    assert "the encoder does not know this language (100% of the tokens" in told
    assert "pawl encoder set multilingual" in told


def test_an_emoji_is_no_language(tokenizer: TextTokenizer) -> None:
    [one, two, alone] = tokenizer.read(["my card 😀", "我 card 的 card", "😀"])
    assert (one.unknown, one.warnings) == (1, ())
    assert two.warnings != ()
    assert alone.warnings != ()  # nothing at all of it is known
    assert not ReadingTotals.of([one, *tokenizer.read(["where is my card"] * 10)]).is_unknown_language


def test_what_is_longer_than_the_encoder_reads_is_cut_and_known_by_what_was_read(tokenizer: TextTokenizer) -> None:
    first, second, other, short = tokenizer.read([LONG + "one", LONG + "two", "my " + LONG, "my card"])
    assert first.cut == second.cut != other.cut
    assert None not in {first.cut, other.cut}
    assert first.warnings == ("truncated",)
    assert short.cut is None
    exact = "card " * (tokenizer.max_tokens - 2)
    assert tokenizer.read([exact])[0].cut is None
    assert tokenizer.read([exact + "card"])[0].cut is not None
    padded = exact + " " * 100_000
    assert tokenizer.read([padded])[0].cut is None  # white space is nothing to read
    assert tokenizer.read([padded + "card"])[0].cut is not None


def test_what_was_tokenized_just_now_is_not_tokenized_again(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["where is my card", LONG]
    expected = tokenizer.read(list(texts))
    tokenizer.tokenize(texts)
    calls: list[int] = []
    encode = tokenizer._encode

    def counted(given: Sequence[str]) -> list[Encoded]:
        calls.append(len(given))
        return encode(given)

    monkeypatch.setattr(tokenizer, "_encode", counted)
    assert tokenizer.read(texts) == expected
    assert calls == []
    assert tokenizer.read(texts) == expected  # it was kept for one call
    assert calls == [2]


def test_a_tokenizer_that_spells_in_bytes_knows_everything(tmp_path: Path) -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = Tokenizer(models.BPE({piece: number for number, piece in enumerate(sorted(alphabet))}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.save(str(tmp_path / "tokenizer.json"))
    reader = TextTokenizer(tmp_path, EncoderSpec("mean", 64, 8))
    assert reader.read(["你好"]) == [TextReading(6, 0, None)]


def test_unigram_and_the_tokens_of_a_prompt(tmp_path: Path) -> None:
    made = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    reader = TextTokenizer(tmp_path, EncoderSpec("mean", 64, 8, prompt="a z "))
    assert reader.read(["b 你"]) == [TextReading(2, 1, None)]


def test_the_default_encoder_does_not_know_chinese() -> None:
    source = find_encoder("all-MiniLM-L6-v2", None)
    reader = TextTokenizer(source.folder, EncoderSpec("mean", 256, 384))
    texts = ["华为发布新款手机 支持卫星通话", "央行宣布下调存款准备金率", "国足世界杯预选赛名单公布"]
    sums = ReadingTotals.of(reader.read(texts))
    assert sums.unknown_share > 0.3
    assert (
        ReadingTotals.of(reader.read(["where is my card?", "Überweisung nach Zürich fehlgeschlagen"])).unknown_share
        == 0.0
    )
