"""What every peer serves: the encoder of a Pawl version and a linear head of 77 classes, as its users would write it.

`PEER_ENCODER` is the encoder's folder. `PEER_BACKEND`: `torch` is transformers and torch in float32; `onnxruntime` and
`openvino` are the encoder that Pawl serves with, so that only the servers differ.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 77
LARGEST_BATCH = 32
BATCH_WAIT_SECONDS = 0.005


class Model:
    """Texts to labels, any number at once."""

    def __init__(self) -> None:
        folder = Path(os.environ["PEER_ENCODER"])
        rng = np.random.default_rng(0)
        if os.environ["PEER_BACKEND"] == "torch":
            self._scores: Any = _torch_scores(folder)
        else:
            encoder = _pawls_encoder(folder)
            weights = rng.standard_normal((encoder.dimension, CLASSES)).astype(np.float32)
            self._scores = lambda texts: encoder.encode(texts) @ weights

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """One `{"label", "score"}` for each text."""
        scores = np.asarray(self._scores(texts), dtype=np.float64)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        return [{"label": f"label {int(row.argmax())}", "score": float(row.max())} for row in odds]


def _pawls_encoder(folder: Path) -> Any:
    if os.environ["PEER_BACKEND"] == "openvino":
        from pawl.classifier.encoders.backends.openvino import OpenVinoEncoder

        return OpenVinoEncoder(folder, digest="")
    from pawl.classifier.encoders.backends.onnx import OnnxEncoder

    return OnnxEncoder(folder, digest="")


def _torch_scores(folder: Path) -> Any:
    import torch
    from transformers import AutoModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    model = AutoModel.from_pretrained(folder).eval()
    torch.manual_seed(0)
    head = torch.nn.Linear(model.config.hidden_size, CLASSES)

    @torch.inference_mode()
    def scores(texts: list[str]) -> Any:
        given = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        hidden = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
        mask = given["attention_mask"].unsqueeze(-1)
        z = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        return head(z).numpy()

    return scores
