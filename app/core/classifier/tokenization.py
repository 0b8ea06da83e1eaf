"""From texts to padded batches of token ids, the same for both encoder backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from app.core.classifier.encoder_folder import TOKENIZER_FILE, EncoderSpec
from app.core.domain.errors import ArtefactCorrupt

MAX_BATCH_TEXTS = 16
MAX_BATCH_TOKENS = 512  # on two cores larger batches gained nothing and cost up to 220 MB more memory
_FIRST_CUT = 16  # characters for each token that may be kept; English needs about 5, spaces included
_LAST_CUT = 64

Ids = npt.NDArray[np.int64]


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
        path = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every kind of bad file
            raise ArtefactCorrupt(path=path, problem=f"not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)
        self._spec = spec

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, behind the encoder's prompt where it has one; at most `max_tokens`, never none.

        A text longer than 16 characters a token is cut before it is tokenized, since tokenizing 1 MB takes a second.
        The cut is at a space where there is one near. If what is left does not fill `max_tokens`, the text is tried
        again with its runs of whitespace made single spaces, up to 64 characters a token. So the tokens are those of
        the whole text unless the ones that are kept stand for more than 64 characters each, spaces made single, or
        the tokenizer joins across spaces.
        """
        full, first, last = (self._spec.max_tokens * n for n in (1, _FIRST_CUT, _LAST_CUT))
        if self._spec.prompt:
            texts = [self._spec.prompt + text for text in texts]
        ids = [list(e.ids) for e in self._tokenizer.encode_batch_fast([_cut(text, first) for text in texts])]
        for row, text in enumerate(texts):
            if len(text) > first and len(ids[row]) < full:
                ids[row] = list(self._tokenizer.encode(_cut(" ".join(text.split()), last)).ids)
        return [row or [self._spec.pad_id] for row in ids]

    def batches(
        self, texts: Sequence[str], *, max_texts: int = MAX_BATCH_TEXTS, max_tokens: int = MAX_BATCH_TOKENS
    ) -> Iterator[TokenBatch]:
        """Batches of texts of similar length, so that little is padding.

        Args:
            texts: Any number of texts, in any order.
            max_texts: Most texts in a batch.
            max_tokens: Most tokens in a batch, padding counted; a single text may have more.
        """
        ids = self.tokenize(texts)
        lengths = np.array([len(row) for row in ids], dtype=np.intp)
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


def _cut(text: str, limit: int) -> str:
    """The first `limit` characters, less the word the cut would break if it is a short one."""
    if len(text) <= limit:
        return text
    space = text.rfind(" ", limit // 2, limit + 1)
    return text[: space if space > 0 else limit]
