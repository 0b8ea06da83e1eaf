"""Turns texts into padded batches of token ids, the same for all backends."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pawl.classifier.encoders.spec import TOKENIZER_FILE, EncoderSpec
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.reading import TextReading
from pawl.ports import Encoder, Floats

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_BATCH_TEXTS = 16
MAX_BATCH_TOKENS = 512  # on two cores larger batches gained nothing and cost up to 220 MB more memory
_FIRST_CUT = 16  # characters for each token that may be kept; English needs about 5, spaces included
_LAST_CUT = 64

_KEPT_TEXTS = 1024  # of a longer list the ids are not kept: each thread would hold them until its next call

Ids = npt.NDArray[np.int64]
Encoded = tuple[list[int], bool]
"""Token ids of a text, and whether it has more of them."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Texts of similar length.

    `rows` are their places in the caller's order; `input_ids` and `attention_mask` have shape (len(rows), tokens).
    """

    rows: npt.NDArray[np.intp]
    input_ids: Ids
    attention_mask: Ids


class TextTokenizer:
    """A fast tokenizer with its truncation set; thread-safe."""

    def __init__(self, folder: Path, spec: EncoderSpec) -> None:
        from tokenizers import Tokenizer  # not where there is no encoder: 8 MB

        path = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every kind of bad file
            raise ArtefactCorrupt(path=path, problem=f"not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)
        self._spec = spec
        self._last = threading.local()  # what this thread tokenized last, for `read`
        self._unknown = _unknown_id(self._tokenizer)
        prompt = self._tokenizer.encode(spec.prompt, add_special_tokens=False) if spec.prompt else None
        self._extra = self._tokenizer.num_special_tokens_to_add(is_pair=False) + (len(prompt.ids) if prompt else 0)
        self._extra_unknown = prompt.ids.count(self._unknown) if prompt and self._unknown is not None else 0

    @property
    def max_tokens(self) -> int:
        """Tokens that are read of a text, special ones included."""
        return self._spec.max_tokens

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """Tells how much of each text is read.

        Costs next to nothing for the list that this thread tokenized last, whose tokens are remembered once.
        """
        kept: tuple[Sequence[str], list[Encoded]] | None = getattr(self._last, "call", None)
        self._last.call = None
        # By identity, which is free; as the list is kept, no other can have got its address meanwhile.
        encoded = kept[1] if kept is not None and kept[0] is texts else self._encode(texts)
        return [self._reading(ids, is_cut=is_cut) for ids, is_cut in encoded]

    def _reading(self, ids: list[int], *, is_cut: bool) -> TextReading:
        unknown = 0 if self._unknown is None else max(0, ids.count(self._unknown) - self._extra_unknown)
        # Bytes in a fixed order: the digest is stored, and compared with those of other machines.
        cut = hashlib.sha256(np.array(ids, dtype="<i8").tobytes()).hexdigest() if is_cut else None
        return TextReading(max(len(ids) - self._extra, 0), unknown, cut)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the token ids of each text: the encoder's prompt, then the text; 1 to `max_tokens` of them.

        Tokenizing 1 MB takes a second, so a text longer than 16 characters a token is cut first, at a space where there
        is one near. If what is left does not fill `max_tokens`, the text is tokenized again with its runs of whitespace
        made single spaces, up to 64 characters a token. The tokens are those of the whole text unless the kept ones
        stand for more than 64 characters each, or the tokenizer joins across spaces.
        """
        encoded = self._encode(texts)
        self._last.call = (texts, encoded) if len(texts) <= _KEPT_TEXTS else None
        return [ids for ids, _ in encoded]

    def _encode(self, texts: Sequence[str]) -> list[Encoded]:
        full, first, last = (self._spec.max_tokens * n for n in (1, _FIRST_CUT, _LAST_CUT))
        if self._spec.prompt:
            texts = [self._spec.prompt + text for text in texts]
        encoded: list[Encoded] = []
        # The fast form makes no offsets, which nobody reads here.
        for text, encoding in zip(
            texts, self._tokenizer.encode_batch_fast([_cut(text, first) for text in texts]), strict=True
        ):
            ids = list(encoding.ids)
            is_cut = len(ids) >= full and bool(encoding.overflowing)
            if len(text) > first:
                is_cut = is_cut or bool(text[len(_cut(text, first)) :].strip())
                if len(ids) < full:
                    single = " ".join(text.split())
                    encoding = self._tokenizer.encode(_cut(single, last))
                    ids, is_cut = list(encoding.ids), bool(encoding.overflowing) or len(single) > last
            # One token at least: a row of none would be a mean over nothing.
            encoded.append((ids or [self._spec.pad_id], is_cut))
        return encoded

    def batches(
        self, texts: Sequence[str], *, max_texts: int = MAX_BATCH_TEXTS, max_tokens: int = MAX_BATCH_TOKENS
    ) -> Iterator[TokenBatch]:
        """Yields batches of texts of similar length, so that little is padding.

        Args:
            texts: Any number of texts, in any order.
            max_texts: Most texts in a batch.
            max_tokens: Most tokens in a batch, padding counted; a single text may have more.
        """
        ids = self.tokenize(texts)
        lengths = np.array([len(row) for row in ids], dtype=np.intp)
        # Stable, so that the same texts make the same batches, and so the same numbers to the last bit.
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            stop = start + 1
            while (
                stop < len(order)
                and stop - start < max_texts
                and (stop - start + 1) * lengths[order[stop]] <= max_tokens
            ):
                stop += 1
            yield self._pad(order[start:stop], ids)
            start = stop

    def _pad(self, rows: npt.NDArray[np.intp], ids: list[list[int]]) -> TokenBatch:
        width = max(len(ids[row]) for row in rows)
        input_ids = np.full((len(rows), width), self._spec.pad_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), width), dtype=np.int64)
        for place, row in enumerate(rows):
            input_ids[place, : len(ids[row])] = ids[row]
            attention_mask[place, : len(ids[row])] = 1
        return TokenBatch(rows, input_ids, attention_mask)


def reader_of(encoder: Encoder) -> TextTokenizer | None:
    """Returns the tokenizer of an encoder that was opened from a folder; None for another encoder."""
    tokenizer = getattr(encoder, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, TextTokenizer) else None


def encode_with_cuts(encoder: Encoder, texts: list[str]) -> tuple[Floats, dict[int, str]]:
    """Embeddings z, shape (n, d), and by row the digest of the part that was read of each text that is longer."""
    z, reader = encoder.encode(texts), reader_of(encoder)
    readings = [] if reader is None else reader.read(texts)
    return z, {row: reading.cut for row, reading in enumerate(readings) if reading.cut is not None}


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    """Returns the id of unknown tokens; None for a tokenizer that has none, as it falls back to bytes."""
    model = tokenizer.model
    token = getattr(model, "unk_token", None)
    if token is None and type(model).__name__ == "Unigram":
        stated = json.loads(tokenizer.to_str())["model"]
        if stated.get("unk_id") is None or stated.get("byte_fallback"):
            return None
        return int(stated["unk_id"])
    unknown = None if token is None else tokenizer.token_to_id(token)
    return None if unknown is None else int(unknown)


def _cut(text: str, limit: int) -> str:
    """Returns the first `limit` characters, without the word that the cut would break if that word is short."""
    if len(text) <= limit:
        return text
    space = text.rfind(" ", limit // 2, limit + 1)
    return text[: space if space > 0 else limit]
