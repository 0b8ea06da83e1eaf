"""Features of a text's words and characters: hashed n-grams, without an encoder and without a vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pawl.ports import Floats

LONGEST = 16_384
"""Characters that are read of a text, after normalisation; the rest has no influence. Bounds the work of one text."""
_TOGETHER = 4096  # characters of texts that are read at once: more, and what is made of them leaves the caches
_LONGEST_DECOMPOSITION = 4  # characters that NFC makes one of, at most: so many raw ones are enough
_SMALLEST, _LARGEST = 64, 65_536
_PLANES = 0x20000  # letters, punctuation and emoji are told apart up to here; above lie ideographs alone
_EAST_ASIAN = (0x2E80, 0xA4D0)  # radicals, kana, ideographs, Yi: a character is a syllable or a word; not Hangul

# Odd 64-bit numbers: the golden ratio, and two multipliers of MurmurHash3's and SplitMix64's finalisers.
_ROLL, _SPREAD, _FINISH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xBF58476D1CE4E5B9)
_WORD, _WORD_PAIR = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F)  # the word "a" is not the letter
_HALF = np.uint64(32)

Integers = npt.NDArray[np.int64]
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Rows of n texts without their zeros.

    Row i has `values[s:e]` in `columns[s:e]` with s, e = starts[i], starts[i + 1].

    Args:
        width: p, columns of a row.
        starts: Shape (n + 1,).
        columns: Shape (k,), rising within a row.
        values: Shape (k,), float32.
    """

    width: int
    starts: Integers
    columns: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1

    def dense(self) -> Floats:
        """The rows, shape (n, width), float32."""
        dense = np.zeros((len(self), self.width), dtype=np.float32)
        dense[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.columns] = self.values
        return dense

    def weighted_squares(self, weights: Floats) -> Floats:
        """The sum of w_i x_i^2 of each row x, shape (n,), float32, for weights w of the columns, (width,)."""
        sums = np.empty(len(self), dtype=np.float32)
        for row, (start, end) in enumerate(pairwise(self.starts.tolist())):
            values = self.values[start:end]
            sums[row] = np.dot(values * values, weights.take(self.columns[start:end]))
        return sums

    def scores(self, weights: Floats) -> Floats:
        """The product of the rows and `weights` (width, C), shape (n, C), float32."""
        scores = np.empty((len(self), weights.shape[1]), dtype=np.float32)
        # Each text by itself: a row has 6 % of the columns, and in a batch its sum would be taken in another order.
        for row, (start, end) in enumerate(pairwise(self.starts.tolist())):
            np.dot(self.values[start:end], weights.take(self.columns[start:end], axis=0), out=scores[row])
        return scores


class LexicalFeatures:
    """Words, pairs of words, and one to four characters in a row, as a signed count sketch of norm 1.

    A text is normalised (NFKC, casefold, blanks folded, one blank at either end). Each gram is hashed to a column and a
    sign (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning"), and equal columns are added up.
    Of each sum the square root is taken, with its sign (Perronnin et al. 2010): else blanks and the letter e, which are
    in every text many times, would outweigh what tells texts apart. The row is divided by its norm; a text without a
    character gives a row of zeros.

    A word is a run of letters, marks and digits. Chinese, Japanese and Thai are written without blanks: there a whole
    phrase is one word, and the characters say what there is to say. An ideograph says what several letters do: three in
    a row, or a phrase, hardly come again, and only crowd the columns, so of ideographs and kana there are one and two
    in a row (with 3,000 Chinese reviews 83.0 instead of 77.2 % right, `docs/log.md`).

    The hash is written out here in 64-bit integers, so a gram has the same column in every process, on every platform
    and with every version of NumPy. Counts are whole numbers, so the order in which they are added changes nothing, and
    a text gives the same bytes alone and in a batch.

    Args:
        size: columns, a power of two.

    Raises:
        ValueError: The size is none that can be.
    """

    def __init__(self, size: int) -> None:
        if not _SMALLEST <= size <= _LARGEST or size & (size - 1):
            raise ValueError(f"{size} columns; expected a power of two from {_SMALLEST} to {_LARGEST}")
        self.size = size
        # The highest bits of a product are the best mixed: they are the column, and one more is the sign.
        self._shift = np.uint64(64 - size.bit_length())

    @property
    def width(self) -> int:
        """The length of a row, p."""
        return self.size

    def expand(self, texts: Sequence[str]) -> Floats:
        """Returns the rows of texts, shape (n, width), float32, each of norm 1 or 0."""
        return self.sparse(texts).dense()

    def sparse(self, texts: Sequence[str]) -> SparseRows:
        """Returns the rows of texts without their zeros."""
        parts: list[SparseRows] = []
        batch: list[str] = []
        characters = 0
        for text in texts:
            read = _normalised(text)
            if batch and characters + len(read) > _TOGETHER:
                parts.append(self._rows(batch))
                batch, characters = [], 0
            batch.append(read)
            characters += len(read)
        parts.append(self._rows(batch))
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _rows(self, texts: Sequence[str]) -> SparseRows:
        """The rows of one text, or of texts that are not longer together than the tables of powers."""
        # Every call to NumPy costs a text of 12 words half a microsecond or more: there are as few as there can be.
        grams, owners = _grams(texts)
        if not len(grams):
            starts = np.zeros(len(texts) + 1, dtype=np.int64)
            return SparseRows(self.width, starts, starts[:0], np.zeros(0, dtype=np.float32))
        grams ^= grams >> _HALF
        grams *= _FINISH
        grams >>= self._shift
        keys = grams.view(np.int64)
        if owners is not None:
            keys += owners * (2 * self.size)
        keys.sort()
        signs = keys & 1
        signs *= -2
        signs += 1
        keys >>= 1
        changes = np.empty(len(keys), dtype=np.bool_)
        changes[0] = True
        np.not_equal(keys[1:], keys[:-1], out=changes[1:])
        firsts = changes.nonzero()[0]
        columns, counts = keys.take(firsts), np.add.reduceat(signs, firsts)
        sizes = np.abs(counts)
        totals: Integers | np.int64
        if owners is None:
            starts = np.array((0, len(columns)))
            totals = sizes.sum()
        else:
            starts = columns.searchsorted(np.arange(len(texts) + 1) * self.size)
            columns &= self.size - 1
            sums = np.zeros(len(sizes) + 1, dtype=np.int64)
            sizes.cumsum(out=sums[1:])
            totals = np.repeat(np.diff(sums.take(starts)), np.diff(starts))
        # The squares of these add up to 1. (Where all grams of a text cancel each other out, the total is 0.)
        values = np.sqrt(sizes / np.maximum(totals, 1))
        return SparseRows(self.width, starts, columns, np.copysign(values, counts).astype(np.float32))


def _normalised(text: str) -> str:
    """What is read of a text, with a blank at either end; '' where it has nothing but blanks."""
    if text.isascii():
        read = text[:LONGEST].lower()
    else:
        # Cut first, so that a huge text is not normalised for nothing. Folded characters need not be in normal form.
        folded = unicodedata.normalize("NFKC", text[: _LONGEST_DECOMPOSITION * LONGEST]).casefold()
        read = unicodedata.normalize("NFKC", folded)[:LONGEST]
    words = read.split()
    return f" {' '.join(words)} " if words else ""


def _grams(texts: Sequence[str]) -> tuple[_Hashes, Integers | None]:
    """The hash of every gram, and the text that each is of; None where there is only one text."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    powers, inverses, letters = _tables()
    inside = letters.take(codes, mode="clip")
    edges = (inside[1:] != inside[:-1]).nonzero()[0]  # texts begin and end with blanks, so edges come in pairs
    starts, ends = edges[0::2], edges[1::2]
    length, count = len(codes), len(starts)
    # One array for all, in six parts: characters, two, three and four of them, words, pairs of words.
    bounds = np.array((length, length - 1, length - 2, length - 3, count, count - 1)).clip(0).cumsum().tolist()
    grams = np.empty(bounds[-1], dtype=np.uint64)
    single, double, triple, fourfold, words, pairs = (grams[start:end] for start, end in pairwise([0, *bounds]))
    np.multiply(codes, _SPREAD, out=single)
    single ^= single >> _HALF
    # Polynomials in _ROLL, modulo 2^64: a gram one longer is _ROLL times the shorter one plus the next character.
    for gram, shorter, place in ((double, single, 1), (triple, double, 2), (fourfold, triple, 3)):
        np.multiply(shorter[:-1], _ROLL, out=gram)
        gram += single[place:]
    # A word's polynomial, its last character first, from sums since the beginning; _ROLL is odd and has an inverse.
    sums = (single * powers[:length]).cumsum()
    np.subtract(sums.take(ends), sums.take(starts), out=words)
    words *= inverses.take(starts)
    np.multiply(words[:-1], _WORD_PAIR, out=pairs)
    pairs += words[1:]
    words ^= _WORD
    spans = (starts + 1, ends + 1)
    if len(texts) == 1:
        kept = _without_long_ideographs(codes, spans)
        return (grams, None) if kept is None else (grams[kept], None)
    # Grams that reach from one text into the next are none.
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    speaker = owner.take(starts)
    first = np.concatenate((owner, owner[:-1], owner[:-2], owner[:-3], speaker, speaker[:-1]))
    last = np.concatenate((owner, owner[1:], owner[2:], owner[3:], speaker, speaker[1:]))
    whole = first == last
    kept = _without_long_ideographs(codes, spans)
    if kept is not None:
        whole &= kept
    places = whole.nonzero()[0]
    return grams.take(places), first.take(places)


def _without_long_ideographs(
    codes: npt.NDArray[np.uint32], spans: tuple[Integers, Integers]
) -> npt.NDArray[np.bool_] | None:
    """Which grams, in the order of `_grams`, are not words or three or more characters with an East Asian one in them;
    None where there is no such character. `spans` are where words begin and end.
    """
    lowest, highest = _EAST_ASIAN
    if codes.max(initial=0) < lowest:  # nearly every text in letters ends here
        return None
    before = np.zeros(len(codes) + 1, dtype=np.int64)
    np.cumsum(((codes >= lowest) & (codes < highest)) | (codes >= _PLANES), out=before[1:])
    plain = before.take(spans[0]) == before.take(spans[1])
    longer = [before[length:] == before[:-length] for length in (3, 4)]
    shorter = np.ones(max(2 * len(codes) - 1, 0), dtype=np.bool_)
    return np.concatenate((shorter, *longer, plain, plain[:-1] & plain[1:]))


@cache
def _tables() -> tuple[_Hashes, _Hashes, npt.NDArray[np.bool_]]:
    """Powers of _ROLL and of its inverse, (LONGEST + 2,), and whether a code point belongs to a word, (_PLANES,)."""
    inverse = np.uint64(pow(int(_ROLL), -1, 2**64))
    factors = np.full((2, LONGEST + 2), [[_ROLL], [inverse]], dtype=np.uint64)
    factors[0, 0] = 1
    powers, inverses = factors.cumprod(axis=1)
    # Marks too (`str.isalnum` says no): without its vowel signs a word in Hindi or Thai falls to pieces.
    apart = frozenset({"Zs", "Zl", "Zp", "Cc"})
    kinds = [unicodedata.category(chr(code)) for code in range(_PLANES)]
    letters = np.array([kind[0] not in "PS" and kind not in apart for kind in kinds])
    return powers, inverses, letters


def _joined(parts: Sequence[SparseRows]) -> SparseRows:
    starts = [parts[0].starts[:1]]
    for part in parts:
        starts.append(part.starts[1:] + starts[-1][-1])
    columns, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("columns", "values"))
    return SparseRows(parts[0].width, np.concatenate(starts), columns, values)
