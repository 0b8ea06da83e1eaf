"""Structured pruning of the feed-forward blocks, and distillation that makes up for what was taken away.

Of each layer's neurons between its two feed-forward matrices, which are two thirds of a layer's arithmetic, the share
that matters least is removed; the smaller matrices are ordinary ones, faster everywhere. Then the encoder is trained
to give the embeddings it gave before (McCarley et al. 2019: pruned widths, then distillation).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.domain.errors import EncoderRejected, TrainingFailed
from pawl.json_values import Json
from worker.consolidation.data.batches import Example, bucketed, collate
from worker.consolidation.training.callbacks import SILENT, Callbacks
from worker.consolidation.training.network import layers_of
from worker.consolidation.training.schedule import learning_rate_factor

_WIDE = "pawl_unpruned_size"  # in config.json: what the share is of, however often an encoder is consolidated
_MULTIPLE = 16  # of which kernels are fastest
_EPOCHS = 4  # these four were chosen on CLINC150's validation part (docs/log.md)
_RATE = 2e-4
_WARMUP = 0.1
_BATCH = 32


def prune(model: nn.Module, share: float) -> tuple[int, int]:
    """Removes neurons until each feed-forward block lacks this share of those it had at first; returns widths before
    and after, equal where nothing was left to remove.

    A neuron's importance is the norm of its row in the first matrix times that of its column in the second (Li et al.,
    ICLR 2017, for two layers). Raises `EncoderRejected` for a transformer without such blocks or whose configuration
    does not name their width.
    """
    config = getattr(model, "config", None)
    width = getattr(config, "intermediate_size", None)
    if config is None or width is None:
        raise EncoderRejected(path=type(model).__name__, problem="its configuration has no intermediate_size to prune")
    original = int(getattr(config, _WIDE, width))
    kept = max(_MULTIPLE, round(original * (1.0 - share) / _MULTIPLE) * _MULTIPLE)
    if kept >= width:
        return int(width), int(width)
    for layer in layers_of(model):
        (up_name, up), (down_name, down) = _feed_forward(layer, int(width))
        # up (width, d), down (d, width): neuron j is row j of the one and column j of the other.
        importance = up.weight.norm(dim=1) * down.weight.norm(dim=0)
        # In their old order: `topk` gives the largest first, and equal encoders should be equal files.
        chosen = importance.topk(kept).indices.sort().values
        layer.set_submodule(up_name, _linear(up.weight[chosen], None if up.bias is None else up.bias[chosen]))
        layer.set_submodule(down_name, _linear(down.weight[:, chosen], down.bias))
    config.intermediate_size = kept
    # Without it each consolidation would take the share once more of what the last one had left.
    setattr(config, _WIDE, original)
    return int(width), kept


def _feed_forward(layer: nn.Module, width: int) -> tuple[tuple[str, nn.Linear], tuple[str, nn.Linear]]:
    """The matrices into and out of the wide space, with their names."""
    linear = [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
    into = [(name, module) for name, module in linear if module.out_features == width != module.in_features]
    out_of = [(name, module) for name, module in linear if module.in_features == width != module.out_features]
    if len(into) != 1 or len(out_of) != 1:
        raise EncoderRejected(path=type(layer).__name__, problem="it has no pair of feed-forward matrices to prune")
    return into[0], out_of[0]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return linear


def compress(
    encoder: TorchEncoder,
    texts: Sequence[str],
    share: float,
    seed: int,
    *,
    bf16: bool,
    callbacks: Callbacks = SILENT,
) -> Json:
    """Prunes the encoder in place and trains it to embed `texts` as it did; what it did, for the version's metrics.

    The loss is the squared distance of z to what it was, a mean over texts. Raises `EncoderRejected` as `prune` does
    and `TrainingFailed` where the loss is not finite.
    """
    # Before pruning, which is in place; without dropout, so that what is to be learned does not depend on the step.
    teacher = copy.deepcopy(encoder.module).eval()
    before, after = prune(encoder.module.model, share)
    if after == before:
        return {"width": after}
    tokens = [Example(tuple(row), ()) for row in encoder.tokenizer.tokenize(texts)]
    rng, lengths = np.random.default_rng(seed), [len(example.tokens) for example in tokens]
    plan = [rows for _ in range(_EPOCHS) for rows in bucketed(lengths, _BATCH, rng)]
    optimiser = torch.optim.AdamW(encoder.module.parameters(), lr=_RATE, betas=(0.9, 0.98))
    first = last = 0.0
    encoder.module.train()
    for step, rows in enumerate(plan):
        batch = collate([tokens[row] for row in rows], encoder.spec.pad_id).to(encoder.device)
        with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                # All pooled layers and not the last alone: each is a part of the z that the heads see.
                wanted = teacher(batch.tokens, batch.mask).float()
            learned = encoder.module(batch.tokens, batch.mask).float()
        loss = (learned - wanted).square().sum(dim=1).mean()
        optimiser.param_groups[0]["lr"] = _RATE * learning_rate_factor(step, len(plan), _WARMUP)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(encoder.module.parameters(), 1.0)
        optimiser.step()
        if callbacks.due() or step in {0, len(plan) - 1}:  # asks the device; the other steps need not wait for it
            last = loss.item()
            first = first or last
            if not np.isfinite(last):
                raise TrainingFailed(problem=f"the distance to the unpruned encoder is {last} at step {step}")
            callbacks.report(step + 1, len(plan), {"loss": last})
    encoder.module.eval()
    return {"width_before": before, "width": after, "distance_at_first": first, "distance": last, "steps": len(plan)}
