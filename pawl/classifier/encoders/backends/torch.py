"""The torch backend: for training, and for serving from a GPU. On a CPU the serving process never imports it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel
from transformers.utils import logging as _untyped_logging

from pawl.classifier.encoders.backends.folder_encoder import FolderEncoder
from pawl.classifier.encoders.device import choose_device, use_bfloat16
from pawl.classifier.encoders.spec import Pooling
from pawl.domain.errors import EncoderRejected
from pawl.ports import Floats
from pawl.processes.threads import thread_count

transformers_logging: Any = _untyped_logging
_GPU_TEXTS = 512  # larger than in `tokenization`, whose limits were measured on two cores
_GPU_TOKENS = 32_768
_FAR = 1e4  # taken from what is padding, so that it is no largest number; half precision holds it


class PooledTransformer(torch.nn.Module):
    """A transformer, its pooling, and the scaling to unit length; what is trained and what is exported.

    `model` is the transformer as `AutoModel` builds it, without the pooler layer that some have and none of the
    poolings uses. `layers` count down from the last layer, 0.
    """

    def __init__(self, model: Any, pooling: Pooling, layers: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.layers = tuple(layers)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """z, shape (n, d), each layer's part of unit length, from int64 ids and a 0/1 mask of shape (n, tokens)."""
        # No token types: where they are segments, none are segment 0; in GPT-2 they would be tokens.
        if self.layers == (0,):
            states = [self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state]
        else:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
            below = [output.hidden_states[-1 - layer] for layer in self.layers[1:]]
            states = [output.last_hidden_state, *below]  # the last one may differ from hidden_states[-1] by a norm
        return torch.cat([self._pooled(hidden, attention_mask) for hidden in states], dim=-1)

    def last_layer(self) -> PooledTransformer:
        """The same transformer with the last layer's part of z alone; what is trained in one is trained in both."""
        return PooledTransformer(self.model, self.pooling)

    def _pooled(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.pooling == "max":
            pooled = (hidden + (mask - 1.0) * _FAR).amax(1)
        elif self.pooling == "last":
            # The one behind which there is none: a sum, which every exporter knows, in place of an index.
            behind = torch.nn.functional.pad(mask[:, 1:], (0, 0, 0, 1))
            pooled = (hidden * (mask - behind)).sum(1)
        else:
            # A mean over the tokens alone; the clamp keeps a row without any from 0 / 0.
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return torch.nn.functional.normalize(pooled, dim=-1)


def load_transformer(folder: Path) -> Any:
    """Builds the transformer of a Hugging Face folder, float32, on the CPU. Only safetensors, no code of the folder.

    Raises `EncoderRejected` when transformers cannot build it or when the folder lacks some of its weights (they
    would be random).
    """
    verbosity = transformers_logging.get_verbosity()
    show_progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)  # the missing pooler below is no news
    transformers_logging.disable_progress_bar()
    try:
        model, report = AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, AttributeError) as error:
        if "trust_remote_code" in str(error):
            problem = "it needs code of its own (auto_map in config.json), and the code of a model folder is never run"
            raise EncoderRejected(path=folder, problem=problem) from error
        raise EncoderRejected(path=folder, problem=f"transformers cannot load it: {error}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if show_progress:
            transformers_logging.enable_progress_bar()
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing or report["mismatched_keys"]:
        problem = f"weights are missing or have another shape: {missing[:3] or sorted(report['mismatched_keys'])[:3]}"
        raise EncoderRejected(path=folder, problem=problem)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # unused; where the folder lacks it, it is random and would change the digest
    return model.eval()


class TorchEncoder(FolderEncoder):
    """An `encoder/` folder on torch. Implements the port `Encoder`; `module` is for training.

    Args:
        folder: The exported folder.
        device: `cpu`, `cuda`, `cuda:1`.
        digest: The folder's digest where it is known and verified already; computed from the files otherwise.
        bf16: Whether `encode` computes in bfloat16 autocast.

    Training `module` does not change the digest: write and load the result.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", digest: str | None = None, bf16: bool = False) -> None:
        super().__init__(folder, digest)
        self.device = torch.device(device)
        self._bf16 = bf16
        self.module = (
            PooledTransformer(load_transformer(folder), self.spec.pooling, self.spec.layers).to(self.device).eval()
        )

    @classmethod
    def for_serving(cls, folder: Path, *, threads: int, digest: str) -> TorchEncoder:
        """On the GPU, in bfloat16 where it has that, or on so many threads of the CPU (0: one for each core)."""
        device = choose_device("auto")
        if device.type == "cuda":
            return cls(folder, device="cuda", digest=digest, bf16=use_bfloat16("auto", device))
        torch.set_num_threads(thread_count(threads))
        return cls(folder, digest=digest)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), float32, each layer's part of unit length, in the order of the texts."""
        z = np.empty((len(texts), self.spec.dimension), dtype=np.float32)
        # Dropout goes off, and comes back for whoever embeds in the middle of a training.
        was_training = self.module.training
        self.module.eval()
        sizes = {} if self.device.type == "cpu" else {"max_texts": _GPU_TEXTS, "max_tokens": _GPU_TOKENS}
        for batch in self.tokenizer.batches(texts, **sizes):
            ids = torch.from_numpy(batch.input_ids).to(self.device)
            mask = torch.from_numpy(batch.attention_mask).to(self.device)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
                z[batch.rows] = self.module(ids, mask).float().cpu().numpy()
        self.module.train(was_training)
        return z
