"""The fine-tuning loop, the same on CPU and CUDA."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog
import torch
from torch import Tensor
from torch.nn import functional

from pawl.domain.errors import TrainingFailed
from worker.consolidation.data.batches import Example, TrainingBatch, bucketed, by_length, collate
from worker.consolidation.training.activations import tokens_at_once
from worker.consolidation.training.callbacks import SILENT, Callbacks, Metrics
from worker.consolidation.training.freezing import TrainedPart, freeze
from worker.consolidation.training.frozen_cache import FrozenPrefix, WholeEncoder
from worker.consolidation.training.losses import weighted_cross_entropy
from worker.consolidation.training.methods.method import Backward, Method
from worker.consolidation.training.network import Network
from worker.consolidation.training.pace import Pace
from worker.consolidation.training.recipe import Recipe, parameter_groups
from worker.consolidation.training.schedule import EarlyStopping, Evaluation, learning_rate_factor

log = structlog.get_logger()

_PACED = 10
"""Steps after which the log says how long the training will take."""


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What training did; the network now holds the weights of the best evaluation, or the last if there was none.

    `samples` counts texts, each time they were trained on; `seconds` is the wall time with evaluations;
    `accumulated` is into how many parts batches were cut at most, for want of memory.
    """

    steps: int
    planned_steps: int
    samples: int
    seconds: float
    trained: TrainedPart
    accumulated: int
    cached_states: bool
    before: Evaluation | None
    best: Evaluation | None
    history: tuple[Evaluation, ...]

    @property
    def changed(self) -> bool:
        """False when no evaluation was better than the one before training, whose weights are then back."""
        return self.best is None or self.best.step > 0


class Trainer:
    """Fine-tunes a network on examples: cross entropy, and what the methods do beside it."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        device: torch.device,
        methods: Sequence[Method] = (),
        callbacks: Callbacks = SILENT,
    ) -> None:
        torch.manual_seed(recipe.seed)  # before methods draw adapters from it, and dropout its masks
        self.network = network.to(device)
        self.recipe = recipe
        self.device = device
        self.parts = self._most = 1
        self._methods = tuple(methods)
        self._callbacks = callbacks
        self._frozen_layers = freeze(network.encoder, recipe.freeze)
        for method in self._methods:
            method.before_training(network)
        self._trained = [p for p in network.parameters() if p.requires_grad]
        self._part = TrainedPart.of(network.encoder)
        self._at_once = tokens_at_once(self._part.layers, network.dimension) if device.type == "cpu" else None
        encoder_rate = math.prod(method.encoder_rate for method in self._methods)
        groups = parameter_groups(network, recipe, encoder_rate)
        self._optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self._encoder: WholeEncoder | FrozenPrefix = WholeEncoder(network)

    def run(self, examples: Sequence[Example], validation: Sequence[Example]) -> TrainingOutcome:
        """Trains until the epochs or the patience are used up. Raises `TrainingFailed` when the loss is not finite."""
        started = time.monotonic()
        examples, validation = self._cache_frozen([*examples], [*validation])
        recipe, stopping = self.recipe, EarlyStopping(self.recipe.patience)
        # Counted on the first epoch: with a budget of tokens another may have a batch more or less.
        per_epoch = len(self._epoch(examples, np.random.default_rng(recipe.seed)))
        steps = math.ceil(per_epoch * recipe.epochs)
        log.info("training", trains=str(self._part), texts=len(examples), steps=steps)
        every, pace = max(1, per_epoch // recipe.evaluations_per_epoch), Pace(steps)
        before: Evaluation | None = None
        kept: list[Tensor] | None = None  # by position, not by name: names differ while frozen layers are taken out
        step = 0
        with self._encoder.resumed():
            if validation:
                before = self.evaluate(validation, step=0)
                stopping.note(before)
                kept = self._weights()
            for step, batch in enumerate(self._batches(examples, steps), start=1):
                loss = self._step(batch, step - 1, steps)
                pace.note(len(batch))
                if step == _PACED:
                    log.info("training_pace", **pace.metrics())
                if self._callbacks.due():
                    metrics: Metrics = {"loss": self._finite(loss), "trains": str(self._part), **pace.metrics()}
                    self._callbacks.report(step, steps, metrics)
                near_end = step < steps < step + every // 2  # the last evaluation is so near that this one is waste
                if validation and (step == steps or (step % every == 0 and not near_end)):
                    if stopping.note(self.evaluate(validation, step)):
                        kept = self._weights()
                    if stopping.exhausted:
                        break
            # The last step's too, which no line of progress has to have looked at.
            self._finite(loss)
            if kept is not None:  # else there is nothing to choose by, and the last weights stay
                self._put_back(kept)
            for method in self._methods:
                method.after_training()
        return TrainingOutcome(
            steps=step,
            planned_steps=steps,
            samples=pace.texts,
            seconds=time.monotonic() - started,
            trained=self._part,
            accumulated=self._most,
            cached_states=isinstance(self._encoder, FrozenPrefix),
            before=before,
            best=stopping.best,
            history=tuple(stopping.history),
        )

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Example], step: int) -> Evaluation:
        """Accuracy and mean cross entropy over all targets of the examples, each counted once."""
        self.network.eval()
        right, loss, count = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        # Twice the batch: nothing is kept for gradients.
        for indices in by_length([len(example.tokens) for example in examples], 2 * self.recipe.batch_size):
            batch = self._collate([examples[index] for index in indices])
            for output in self.network.outputs(batch, self._embed(batch)):
                labels = output.targets.labels
                right += (output.logits.argmax(dim=1) == labels).sum()
                loss += functional.cross_entropy(output.logits, labels, reduction="sum")
                count += len(labels)
        evaluation = Evaluation(step, right.item() / count, self._finite(loss / count))
        log.info("evaluated", step=step, accuracy=round(evaluation.accuracy, 4), loss=evaluation.loss)
        self._callbacks.evaluated(evaluation)
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
            # Outside the handler: its traceback holds the activations of the failed pass, whose memory is needed now.
            self.parts *= 2
            self._optimiser.zero_grad()  # the parts that did fit have added theirs already
            torch.cuda.empty_cache()
            log.warning("out of memory, accumulating gradients", parts=self.parts)
        for method in self._methods:
            method.after_backward()
        torch.nn.utils.clip_grad_norm_(self._trained, self.recipe.max_grad_norm)
        self._optimiser.step()
        self._optimiser.zero_grad()
        for method in self._methods:
            method.after_step()
        return loss

    def accumulate(self, examples: Sequence[Example]) -> Tensor:
        """Adds the gradients of the batch's mean loss, computed in `parts` parts; returns the loss, shape ().

        The mean is over the weights of all targets in the batch, so that parts add up to it whatever they hold.
        """
        weight = sum(target.weight for example in examples for target in example.targets)
        total = torch.zeros((), device=self.device)
        size = math.ceil(len(examples) / self._parts_of(examples))
        for start in range(0, len(examples), size):
            batch = self._collate(examples[start : start + size])
            for method in self._methods:
                batch = method.on_batch(batch)
            backward: Backward = partial(self._backward, batch, weight)
            for method in self._methods:
                backward = method.on_backward(backward)
            total += backward(1.0)
        return total

    def _parts_of(self, examples: Sequence[Example]) -> int:
        parts = self.parts
        if self._at_once is not None:
            longest = max(len(example.tokens) for example in examples)
            parts = max(parts, math.ceil(len(examples) / max(1, self._at_once // longest)))
        self._most = max(self._most, parts)
        return parts

    def _backward(self, batch: TrainingBatch, weight: float, share: float) -> Tensor:
        """Adds the gradients of `share` of the batch's loss over `weight`; returns that whole loss, shape ()."""
        z = self._embed(batch)
        loss = z.new_zeros(())
        for output in self.network.outputs(batch, z):
            targets = output.targets
            term = weighted_cross_entropy(output.logits, targets.labels, targets.weights)
            for method in self._methods:
                term = method.on_loss(term, output)
            loss = loss + term
        loss = loss / weight
        torch.autograd.backward(loss * share)
        return loss.detach()

    def _collate(self, examples: Sequence[Example]) -> TrainingBatch:
        return collate(examples, self.recipe.padding).to(self.device)

    def _embed(self, batch: TrainingBatch) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.bf16):
            return self._encoder.embed(batch)

    def _cache_frozen(self, examples: list[Example], validation: list[Example]) -> tuple[list[Example], list[Example]]:
        """Runs the frozen layers once for every text, where that is possible and more than one epoch uses it.

        Returns the examples with the states that enter the first trained layer, or as they are.
        """
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
        self._encoder = prefix
        return cached[: len(examples)], cached[len(examples) :]

    def _batches(self, examples: Sequence[Example], steps: int) -> Iterator[list[Example]]:
        rng = np.random.default_rng(self.recipe.seed)
        done = 0
        while done < steps:
            for indices in self._epoch(examples, rng)[: steps - done]:
                done += 1
                yield [examples[index] for index in indices]

    def _epoch(self, examples: Sequence[Example], rng: np.random.Generator) -> list[list[int]]:
        lengths = [len(example.tokens) for example in examples]
        return bucketed(lengths, self.recipe.batch_size, rng, self.recipe.token_budget)

    def _train_mode(self) -> None:
        """Dropout where weights move, none in the frozen part: its output must not depend on the step."""
        self.network.train()
        for module in self.network.encoder.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    def _weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self._trained]

    @torch.no_grad()
    def _put_back(self, weights: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._trained, weights, strict=True):
            parameter.copy_(value)

    def _finite(self, loss: Tensor) -> float:
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingFailed(problem=f"the loss is {value}; lower PAWL_LEARNING_RATE or set PAWL_BF16=off")
        return round(value, 4)
