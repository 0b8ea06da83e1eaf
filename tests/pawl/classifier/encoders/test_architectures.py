"""Every architecture on every backend gives the numbers of transformers, in float32 and in int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.choice.proof import LEAST_COSINE
from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec, Precision
from pawl.ports import Floats
from tests.pawl.classifier.architectures import CONFIGS, halve, shard, transformers, write_encoder_of
from tests.tiny_encoder import WORDS

_KINDS = [*CONFIGS, "bert float16", "bert sharded"]
_TEXTS = [" ".join(WORDS[(7 * n + place) % len(WORDS)] for place in range(n)) for n in (*range(13), 37, 41, 44, 45, 60)]
_FORMS: dict[str, Callable[[Path], Path]] = {"": lambda folder: folder, "float16": halve, "sharded": shard}

Exported = Callable[[str, Precision], tuple[Path, Floats]]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two that share matrices of 32 by 32 wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The exported folder of a kind in a precision, and the embeddings of the texts by transformers; each made once."""
    sources: dict[str, tuple[Path, Floats]] = {}
    folders: dict[tuple[str, str], Path] = {}

    def make(kind: str, precision: Precision) -> tuple[Path, Floats]:
        if kind not in sources:
            architecture, _, form = kind.partition(" ")
            source = write_encoder_of(architecture, tmp_path_factory.mktemp("source") / "encoder")
            sources[kind] = _FORMS[form](source), np.zeros(0, np.float32)
        if (kind, precision) not in folders:
            folder = folders[kind, precision] = tmp_path_factory.mktemp("exported") / "encoder"
            export_encoder(str(sources[kind][0]), folder, max_tokens=256, pooled_layers=2, precision=precision)
            if not len(sources[kind][1]):
                sources[kind] = sources[kind][0], _by_transformers(sources[kind][0], folder)
        return folders[kind, precision], sources[kind][1]

    return make


def _by_transformers(source: Path, exported: Path) -> Floats:
    """Mean-pooled states of both layers, as one would write it with transformers alone."""
    spec = EncoderSpec.from_file(exported / SPEC_FILE)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"))
    model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    rows = []
    for text in _TEXTS:
        ids = tokenizer(text, truncation=True, max_length=spec.max_tokens)["input_ids"]
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        states = [output.last_hidden_state[0].mean(0), output.hidden_states[1][0].mean(0)]
        rows.append(torch.cat([torch.nn.functional.normalize(state, dim=0) for state in states]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    ("precision", "library"),
    [("float32", "onnxruntime"), ("float32", "openvino"), ("float32", "torch"), ("int8", "onnxruntime")],
)
def test_a_backend_gives_the_numbers_of_transformers(
    exported: Exported, kind: str, precision: Precision, library: str
) -> None:
    folder, expected = exported(kind, precision)
    encoder = Backends(library, threads=1).open(folder, f"{kind} {precision}")  # type: ignore[arg-type]  # one of them
    assert encoder.library == library, "and no other, whose numbers would be right as well"
    order = np.random.default_rng(0).permutation(len(_TEXTS))
    mixed = np.empty_like(expected)
    for rows in np.array_split(order, 3):
        mixed[rows] = encoder.encode([_TEXTS[row] for row in rows])
    for z in (encoder.encode(_TEXTS), np.vstack([encoder.encode([text]) for text in _TEXTS]), mixed):
        parts, wanted = (rows.reshape(len(rows), 2, -1) for rows in (z, expected))
        cosines = (parts * wanted).sum(-1) / np.linalg.norm(parts, axis=-1)
        assert cosines.min() >= LEAST_COSINE[precision], _TEXTS[int(cosines.min(axis=1).argmin())]


@pytest.mark.parametrize("kind", CONFIGS)
def test_texts_are_cut_where_the_model_has_no_more_positions(exported: Exported, kind: str) -> None:
    numbered_from_the_padding_id = {"roberta", "xlm-roberta", "mpnet"}
    expected = 43 if kind in numbered_from_the_padding_id else 45
    assert EncoderSpec.from_file(exported(kind, "float32")[0] / SPEC_FILE).max_tokens == expected
