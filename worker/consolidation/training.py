"""The fine-tuning loop, the same on CPU and CUDA."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from torch import Tensor, nn

from app.core.domain.errors import TrainingFailed
from worker.consolidation.batches import Batch, Example, bucketed, by_length, collate
from worker.consolidation.frozen import FrozenPrefix
from worker.consolidation.network import Network, freeze
from worker.consolidation.schedule import EarlyStopping, Evaluation, learning_rate_factor

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; most names are those of the settings.

    `head_rate` is the heads' learning rate as a multiple of the encoder's; `bf16` is autocast to bfloat16; `padding`
    is the id of the padding token.
    """

    freeze: str
    epochs: float
    learning_rate: float
    warmup: float
    weight_decay: float
    batch_size: int
    distillation: float
    distillation_temperature: float
    patience: int
    max_grad_norm: float
    bf16: bool
    padding: int
    seed: int
    head_rate: float = 20.0
    evaluations_per_epoch: int = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training did; the network now holds the weights of the best evaluation, or the last if there was none.

    `samples` counts texts, each time they were trained on; `seconds` is the wall time with evaluations;
    `accumulated` is into how many parts batches were cut for want of memory.
    """

    steps: int
    planned_steps: int
    samples: int
    seconds: float
    accumulated: int
    cached_states: bool
    before: Evaluation | None
    best: Evaluation | None
    history: tuple[Evaluation, ...]

    @property
    def changed(self) -> bool:
        """False when no evaluation was better than the one before training, whose weights are then back."""
        return self.best is None or self.best.step > 0


Report = Callable[[int, int, dict[str, float]], None]
"""Takes (steps done, steps in all, metrics) of a line of progress."""


class Trainer:
    """Fine-tunes a network on examples.

    `due` says whether a line of progress is wanted; only then is the device asked for the loss, so that CUDA is not
    made to wait in the other steps.
    """

    def __init__(
        self, network: Network, recipe: Recipe, device: torch.device, *, due: Callable[[], bool], report: Report
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.network = network.to(device)
        self.recipe = recipe
        self.device = device
        self.parts = 1
        self._due = due
        self._report = report
        self._frozen_layers = freeze(network.encoder, recipe.freeze)
        self._prefix: FrozenPrefix | None = None
        self._trained = [p for p in network.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(self._parameter_groups(), betas=(0.9, 0.98), fused=True)

    def run(self, examples: Sequence[Example], validation: Sequence[Example]) -> Outcome:
        """Trains until the epochs or the patience are used up. Raises `TrainingFailed` when the loss is not finite."""
        started = time.monotonic()
        examples, validation = self._cache_frozen([*examples], [*validation])
        recipe, stopping = self.recipe, EarlyStopping(self.recipe.patience)
        per_epoch = math.ceil(len(examples) / recipe.batch_size)
        steps = math.ceil(per_epoch * recipe.epochs)
        every = max(1, per_epoch // recipe.evaluations_per_epoch)
        kept: list[Tensor] | None = None
        step = samples = 0
        with self._resumed():
            before = self.evaluate(validation, step=0) if validation else None
            if before is not None and stopping.improves(before):
                kept = self._weights()
            for step, batch in enumerate(self._batches(examples, steps), start=1):
                loss = self._step(batch, step - 1, steps)
                samples += len(batch)
                if self._due():
                    seconds = time.monotonic() - started
                    self._report(step, steps, self._finite(loss) | {"samples_per_s": round(samples / seconds, 1)})
                near_end = step < steps < step + every // 2  # the last evaluation is so near that this one is waste
                if validation and (step == steps or (step % every == 0 and not near_end)):
                    if stopping.improves(self.evaluate(validation, step)):
                        kept = self._weights()
                    if stopping.exhausted:
                        break
        self._finite(loss)
        if kept is not None:
            self._put_back(kept)
        history, best = tuple(stopping.history), stopping.best
        seconds, cached = time.monotonic() - started, self._prefix is not None
        return Outcome(step, steps, samples, seconds, self.parts, cached, before, best, history)

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Example], step: int) -> Evaluation:
        """Accuracy and mean cross entropy over all targets of the examples, each counted once."""
        self.network.eval()
        right, loss, count = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        for indices in by_length([len(example.tokens) for example in examples], 2 * self.recipe.batch_size):
            batch = collate([examples[index] for index in indices], self.recipe.padding).to(self.device)
            z = self._embed(batch)
            for task, targets in batch.targets.items():
                logits = self.network.heads[task](z[targets.rows])
                right += (logits.argmax(dim=1) == targets.labels).sum()
                loss += nn.functional.cross_entropy(logits, targets.labels, reduction="sum")
                count += len(targets.labels)
        mean = self._finite(loss / count)["loss"]
        evaluation = Evaluation(step, right.item() / count, mean)
        log.info("evaluated", step=step, accuracy=round(evaluation.accuracy, 4), loss=round(mean, 4))
        return evaluation

    def _step(self, examples: Sequence[Example], step: int, steps: int) -> Tensor:
        """One optimiser step; cuts the batch into more parts, and tries again, when memory runs out."""
        factor = learning_rate_factor(step, steps, self.recipe.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = factor * group["peak"]
        self._train_mode()
        while True:
            try:
                loss = self.accumulate(examples)
                break
            except torch.OutOfMemoryError:
                if self.parts >= len(examples):
                    raise
            self.parts *= 2
            self._optimiser.zero_grad()
            torch.cuda.empty_cache()
            log.warning("out of memory, accumulating gradients", parts=self.parts)
        torch.nn.utils.clip_grad_norm_(self._trained, self.recipe.max_grad_norm)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return loss

    def accumulate(self, examples: Sequence[Example]) -> Tensor:
        """Adds the gradients of the batch's mean loss, computed in `parts` parts; returns the loss, shape ()."""
        weight = sum(target.weight for example in examples for target in example.targets)
        total = torch.zeros((), device=self.device)
        size = math.ceil(len(examples) / self.parts)
        for start in range(0, len(examples), size):
            batch = collate(examples[start : start + size], self.recipe.padding).to(self.device)
            z = self._embed(batch)
            distil, temperature = self.recipe.distillation, self.recipe.distillation_temperature
            loss = self.network.loss(batch, z, distil=distil, temperature=temperature) / weight
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def _embed(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.bf16):
            if self._prefix is not None and batch.states is not None:
                return self._prefix.embed(batch)
            return self.network.embed(batch.tokens, batch.mask)

    def _cache_frozen(self, examples: list[Example], validation: list[Example]) -> tuple[list[Example], list[Example]]:
        """Runs the frozen layers once for every text, where that is possible and more than one epoch uses it."""
        if self._frozen_layers == 0 or self.recipe.epochs <= 1:
            return examples, validation
        prefix = FrozenPrefix(self.network, self._frozen_layers)
        if not prefix.fits([*examples, *validation]):
            return examples, validation
        size, padding = 2 * self.recipe.batch_size, self.recipe.padding
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.bf16):
            cached = prefix.cache([*examples, *validation], size, padding, self.device)
            if not prefix.agrees(cached[:size], padding, self.device):
                log.warning("this encoder cannot resume from cached states, the frozen layers run in every epoch")
                return examples, validation
        self._prefix = prefix
        return cached[: len(examples)], cached[len(examples) :]

    def _resumed(self) -> AbstractContextManager[None]:
        return nullcontext() if self._prefix is None else self._prefix.resumed()

    def _batches(self, examples: Sequence[Example], steps: int) -> Iterator[list[Example]]:
        rng = np.random.default_rng(self.recipe.seed)
        lengths = [len(example.tokens) for example in examples]
        done = 0
        while done < steps:
            for indices in bucketed(lengths, self.recipe.batch_size, rng)[: steps - done]:
                done += 1
                yield [examples[index] for index in indices]

    def _train_mode(self) -> None:
        """Dropout where weights move, none in the frozen part: its output must not depend on the step."""
        self.network.train()
        for module in self.network.encoder.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    def _parameter_groups(self) -> list[dict[str, object]]:
        """The encoder's matrices with weight decay, its biases and norms without, and the heads with their own rate."""
        trained = [p for p in self.network.encoder.parameters() if p.requires_grad]
        rate, decay = self.recipe.learning_rate, self.recipe.weight_decay
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "peak": rate, "weight_decay": decay},
            {"params": [p for p in trained if p.ndim <= 1], "peak": rate, "weight_decay": 0.0},
            {"params": [*self.network.heads.parameters()], "peak": rate * self.recipe.head_rate, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def _weights(self) -> list[Tensor]:
        """A copy of all that is trained; not by name, since names differ while frozen layers are taken out."""
        return [p.detach().clone() for p in self._trained]

    @torch.no_grad()
    def _put_back(self, weights: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._trained, weights, strict=True):
            parameter.copy_(value)

    def _finite(self, loss: Tensor) -> dict[str, float]:
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingFailed(problem=f"the loss is {value}; lower PAWL_LEARNING_RATE or set PAWL_BF16=off")
        return {"loss": round(value, 4)}
