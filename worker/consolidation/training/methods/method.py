"""The interface of a training method: one hook for each moment of a training. A hook does nothing unless overridden."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

from torch import Tensor

from pawl.settings import Settings
from worker.consolidation.data.batches import TrainingBatch
from worker.consolidation.training.losses import TaskOutput
from worker.consolidation.training.network import Network

Backward = Callable[[float], Tensor]
"""Adds the gradients of so large a share of the batch's loss; returns the whole loss, shape ()."""


class Method:
    """One method of training. The trainer calls the hooks of all methods in the order of the registry.

    Per training: `before_training`, then the steps, then `after_training`. Per step: `on_batch`, `on_backward` and
    `on_loss` (once for each part of the batch and each task), `after_backward`, `after_step`.
    """

    encoder_rate: ClassVar[float] = 1.0
    """The encoder's learning rate is multiplied by this."""

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The method as the settings ask for it; None where they leave it off."""
        raise NotImplementedError

    def before_training(self, network: Network, /) -> None:
        """Called once, after layers are frozen and before the optimiser is made of the parameters that train."""

    def on_batch(self, batch: TrainingBatch, /) -> TrainingBatch:
        """Returns the batch to train on."""
        return batch

    def on_loss(self, loss: Tensor, _output: TaskOutput, /) -> Tensor:
        """Returns the loss of one task, shape (), a sum over its targets: `loss` with what the method adds to it."""
        return loss

    def on_backward(self, backward: Backward, /) -> Backward:
        """Returns what computes the gradients of a batch: `backward`, or several passes of it."""
        return backward

    def after_backward(self) -> None:
        """Called when the gradients of a step are complete, before they are clipped."""

    def after_step(self) -> None:
        """Called after the optimiser's step."""

    def after_training(self) -> None:
        """Called once, when the network holds the weights that are kept."""
