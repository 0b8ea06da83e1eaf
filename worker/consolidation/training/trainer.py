"""The fine-tuning loop, the same on CPU and CUDA."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import structlog
import torch
from torch import Tensor, nn

from pawl.domain.errors import TrainingFailed
from worker.consolidation.data.batches import Batch, Example, bucketed, by_length, collate
from worker.consolidation.training.frozen_cache import FrozenPrefix
from worker.consolidation.training.methods.adversarial import Adversary
from worker.consolidation.training.methods.augmentation import drop_tokens
from worker.consolidation.training.methods.averaging import RunningAverage, best_share, copies, interpolate
from worker.consolidation.training.methods.lora import Adapters
from worker.consolidation.training.methods.regularisers import AnchoredPenalty, fisher_information
from worker.consolidation.training.network import Network, freeze
from worker.consolidation.training.recipe import Recipe, parameter_groups
from worker.consolidation.training.schedule import EarlyStopping, Evaluation, learning_rate_factor

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training did; the network now holds the weights of the best evaluation, or the last if there was none.

    `samples` counts texts, each time they were trained on; `seconds` is the wall time with evaluations;
    `accumulated` is into how many parts batches were cut for want of memory; `new_share` is that of the trained weights
    in the average with the old ones.
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
    new_share: float = 1.0

    @property
    def changed(self) -> bool:
        """False when no evaluation was better than the one before training, whose weights are then back."""
        return (self.best is None or self.best.step > 0) and self.new_share > 0


Report = Callable[[int, int, dict[str, float]], None]
"""Takes (steps done, steps in all, metrics) of a line of progress."""


class Trainer:
    """Fine-tunes a network on examples.

    `due` says whether a line of progress is wanted; only then is the device asked for the loss, so that CUDA is not
    made to wait in the other steps. `evaluated` is told of each evaluation and may end the training by raising.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        device: torch.device,
        *,
        due: Callable[[], bool],
        report: Report,
        evaluated: Callable[[Evaluation], None] = lambda _: None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.network = network.to(device)
        self.recipe = recipe
        self.device = device
        self.parts = 1
        self._due = due
        self._report = report
        self._evaluated = evaluated
        self._frozen_layers = freeze(network.encoder, recipe.freeze)
        self._moving = [p for p in network.parameters() if p.requires_grad]  # also where adapters do the moving
        self._start = copies(self._moving) if recipe.wise_ft != 1.0 else None
        self._adapters = Adapters(network.encoder, recipe.lora_rank) if recipe.lora_rank else None
        self._adversary = Adversary(network.encoder, recipe.attack) if recipe.attack else None
        self._prefix: FrozenPrefix | None = None
        self._penalties: list[AnchoredPenalty] = []
        self._trained = [p for p in network.parameters() if p.requires_grad]
        self._average = RunningAverage(self._trained, recipe.ema_decay) if recipe.ema_decay else None
        groups = parameter_groups(network.encoder, network.heads, recipe)
        self._optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        if recipe.compiled:
            network.encoder.compile(dynamic=True)

    def run(self, examples: Sequence[Example], validation: Sequence[Example]) -> Outcome:
        """Trains until the epochs or the patience are used up. Raises `TrainingFailed` when the loss is not finite."""
        started = time.monotonic()
        examples, validation = self._cache_frozen([*examples], [*validation])
        recipe, stopping = self.recipe, EarlyStopping(self.recipe.patience)
        per_epoch = len(self._epoch(examples, np.random.default_rng(recipe.seed)))
        steps = math.ceil(per_epoch * recipe.epochs)
        every = max(1, per_epoch // recipe.evaluations_per_epoch)
        kept: list[Tensor] | None = None  # not by name: names differ while frozen layers are taken out
        step = samples = 0
        with self._resumed():
            self._penalties = self._anchor(examples)
            before = self.evaluate(validation, step=0) if validation else None
            if before is not None and stopping.improves(before):
                kept = copies(self._trained)
            for step, batch in enumerate(self._batches(examples, steps), start=1):
                loss = self._step(batch, step - 1, steps)
                samples += len(batch)
                if self._due():
                    seconds = time.monotonic() - started
                    self._report(step, steps, self._finite(loss) | {"samples_per_s": round(samples / seconds, 1)})
                near_end = step < steps < step + every // 2  # the last evaluation is so near that this one is waste
                if validation and (step == steps or (step % every == 0 and not near_end)):
                    with self._averaged():
                        if stopping.improves(self.evaluate(validation, step)):
                            kept = copies(self._trained)
                    if stopping.exhausted:
                        break
            self._finite(loss)
            if kept is None:  # nothing to choose by: the last ones
                with self._averaged():
                    kept = copies(self._trained)
            self._put_back(kept)
            if self._adapters is not None:
                self._adapters.merge()
            new_share, best = self._mix_with_start(validation, stopping.best)
        history = tuple(stopping.history)
        seconds, cached = time.monotonic() - started, self._prefix is not None
        return Outcome(step, steps, samples, seconds, self.parts, cached, before, best, history, new_share)

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Example], step: int) -> Evaluation:
        """Accuracy and mean cross entropy over all targets of the examples, each counted once."""
        self.network.eval()
        right, loss, count = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        for indices in by_length([len(example.tokens) for example in examples], 2 * self.recipe.batch_size):
            batch = self._collate([examples[index] for index in indices])
            z = self._embed(batch)
            for task, targets in batch.targets.items():
                logits = self.network.heads[task](z[targets.rows])
                right += (logits.argmax(dim=1) == targets.labels).sum()
                loss += nn.functional.cross_entropy(logits, targets.labels, reduction="sum")
                count += len(targets.labels)
        mean = self._finite(loss / count)["loss"]
        evaluation = Evaluation(step, right.item() / count, mean)
        log.info("evaluated", step=step, accuracy=round(evaluation.accuracy, 4), loss=round(mean, 4))
        self._evaluated(evaluation)
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
        for penalty in self._penalties:
            penalty.add_gradients()
        torch.nn.utils.clip_grad_norm_(self._trained, self.recipe.max_grad_norm)
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._average is not None:
            self._average.update()
        return loss

    def accumulate(self, examples: Sequence[Example]) -> Tensor:
        """Adds the gradients of the batch's mean loss, computed in `parts` parts; returns the loss, shape ()."""
        weight = sum(target.weight for example in examples for target in example.targets)
        total = torch.zeros((), device=self.device)
        size = math.ceil(len(examples) / self.parts)
        for start in range(0, len(examples), size):
            batch = self._collate(examples[start : start + size])
            if self.recipe.token_dropout:
                batch = replace(batch, mask=drop_tokens(batch.mask, self.recipe.token_dropout))

            def backward(share: float, batch: Batch = batch) -> Tensor:
                loss = self.network.loss(batch, self._embed(batch), self.recipe.objective) / weight
                torch.autograd.backward(loss * share)
                return loss.detach()

            total += backward(1.0) if self._adversary is None else self._adversary.accumulate(batch.mask, backward)
        return total

    def _collate(self, examples: Sequence[Example]) -> Batch:
        return collate(examples, self.recipe.padding).to(self.device)

    def _embed(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.bf16):
            if self._prefix is not None and batch.states is not None:
                return self._prefix.embed(batch)
            return self.network.embed(batch.tokens, batch.mask)

    def _anchor(self, examples: Sequence[Example]) -> list[AnchoredPenalty]:
        """The regularisers, anchored at the present weights. The heads are free: new labels need them to move."""
        recipe, penalties = self.recipe, []
        parameters = [p for p in self.network.encoder.parameters() if p.requires_grad]
        if recipe.l2_sp:
            penalties.append(AnchoredPenalty(parameters, recipe.l2_sp))
        replayed = [e for e in examples if any(target.teacher is not None for target in e.targets)]
        if recipe.ewc and replayed:
            self.network.eval()
            one_by_one = (self._collate([example]) for example in replayed)
            fisher = fisher_information(parameters, self.network.heads, one_by_one, self._embed, recipe.seed)
            penalties.append(AnchoredPenalty(parameters, recipe.ewc, fisher))
        return penalties

    def _mix_with_start(
        self, validation: Sequence[Example], best: Evaluation | None
    ) -> tuple[float, Evaluation | None]:
        """Averages the trained network with the one it came from, where that is asked for; the share and its score."""
        share, start = self.recipe.wise_ft, self._start
        if start is None or (best is not None and best.step == 0):
            return 1.0, best
        if share != "validation":
            interpolate(self._moving, start, copies(self._moving), share)
            return share, best
        if best is None:
            return 1.0, best
        step = best.step
        chosen, evaluation = best_share(self._moving, start, lambda: self.evaluate(validation, step))
        return chosen, evaluation

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._average is None else self._average.applied()

    def _cache_frozen(self, examples: list[Example], validation: list[Example]) -> tuple[list[Example], list[Example]]:
        """Runs the frozen layers once for every text, where that is possible and more than one epoch uses it."""
        if self._frozen_layers == 0 or self.recipe.epochs <= 1 or self._adversary is not None:
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

    @torch.no_grad()
    def _put_back(self, weights: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._trained, weights, strict=True):
            parameter.copy_(value)

    def _finite(self, loss: Tensor) -> dict[str, float]:
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingFailed(problem=f"the loss is {value}; lower PAWL_LEARNING_RATE or set PAWL_BF16=off")
        return {"loss": round(value, 4)}
