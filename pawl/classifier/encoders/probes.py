"""Texts of every length an encoder takes, on which backends are compared with transformers."""

from __future__ import annotations

from pawl.classifier.encoders.tokenization import TextTokenizer

_EVERY = 64
"""An encoder that takes no more tokens than this is asked at every length; a longer one around the powers of two."""
_ODD = ("", " ", "\N{GRINNING FACE}", "a\x00b")
_SENTENCES = (
    "my card has not arrived and nobody can say when it will : the 2nd payment of 13.10 was declined twice "
    "naïve Überweisung пришла карта не \u6211\u7684\u5361 \u304c \u5c4a\u304b\u306a\u3044 why ? please help me now ! "
    "profit rose in the third quarter while sales fell by a tenth"
)
_WORDS = _SENTENCES.split()


def probe_texts(tokenizer: TextTokenizer, max_tokens: int) -> tuple[str, ...]:
    """One text for each length in tokens, shortest first, then one that is cut, then some with hardly a word.

    Which lengths there are depends on the tokenizer: few make a text of a single token.
    """
    return (*(_text(tokenizer, n) for n in lengths(max_tokens)), _words(0, 2 * max_tokens), *_ODD)


def lengths(max_tokens: int) -> list[int]:
    """All lengths up to 16 (64 where the encoder takes no more), then those around powers of two, then the longest."""
    found = set(range(1, min(max_tokens, _EVERY if max_tokens <= _EVERY else 16) + 1))
    power = 32
    while power < max_tokens:
        found |= {n for n in (power - 1, power, power + 1) if n <= max_tokens}
        power *= 2
    return sorted(found | {max(1, max_tokens - 1), max_tokens})


def _text(tokenizer: TextTokenizer, tokens: int) -> str:
    """A text of these words that has so many tokens, or as few more as can be had."""
    found: list[tuple[int, str]] = []
    for first in range(tokens, tokens + len(_WORDS)):
        low, high = 0, tokens
        while low < high:
            middle = (low + high) // 2
            if len(tokenizer.tokenize([_words(first, middle)])[0]) < tokens:
                low = middle + 1
            else:
                high = middle
        text = _words(first, low)
        found.append((len(tokenizer.tokenize([text])[0]), text))
        if found[-1][0] == tokens:
            break
    return min(found)[1]


def _words(first: int, count: int) -> str:
    return " ".join(_WORDS[(first + place) % len(_WORDS)] for place in range(count))
