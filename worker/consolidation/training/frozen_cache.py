"""Runs the frozen lower layers once for each text instead of once in each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from worker.consolidation.data.batches import Example, TrainingBatch, by_length, collate
from worker.consolidation.training.network import Network, layers_of

_TYPE = torch.float16  # states follow a norm: far from its largest number, and eight times as fine as bfloat16
_MEMORY = 2**29  # bytes of cached states; beyond it the frozen layers run in every epoch
_TOLERANCE = 2e-2  # of the cosine between z with and without the cache; bfloat16 differs by less than 1e-2


class _FirstTrainedLayer(Exception):
    """Ends a forward pass at the first trained layer, whose input is all that is wanted of it."""


class WholeEncoder:
    """The encoder from its tokens on: what `FrozenPrefix` is where nothing is cached."""

    def __init__(self, network: Network) -> None:
        self.embed = network.embed

    def resumed(self) -> AbstractContextManager[None]:
        """Changes nothing."""
        return nullcontext()


class FrozenPrefix:
    """The frozen layers of a network and the cached states that leave them.

    Works on encoders that have an `embeddings` module in front of their layers (BERT and its kin); `fits` says
    whether the states fit in memory, `agrees` whether starting from them gives the same z.
    """

    def __init__(self, network: Network, frozen: int) -> None:
        self._network = network
        self._frozen = frozen
        self._layers = layers_of(network.encoder)
        modules = network.encoder.named_modules()
        self._embeddings = next((module for name, module in modules if name.split(".")[-1] == "embeddings"), None)

    def fits(self, examples: Sequence[Example]) -> bool:
        """True when the states of all examples fit in memory and the encoder is of a kind this can resume."""
        tokens = sum(len(example.tokens) for example in examples)
        return self._embeddings is not None and tokens * self._network.dimension * _TYPE.itemsize <= _MEMORY

    @torch.no_grad()
    def cache(self, examples: Sequence[Example], batch_size: int, padding: int, device: torch.device) -> list[Example]:
        """The examples with the states that enter the first trained layer (computed without dropout)."""
        result: list[Example] = list(examples)
        self._network.eval()
        for indices in by_length([len(example.tokens) for example in examples], batch_size):
            batch = collate([examples[index] for index in indices], padding).to(device)
            states = self._states(batch).to(_TYPE).cpu()
            for row, index in enumerate(indices):
                length = len(examples[index].tokens)
                # On the CPU: a GPU's memory is for training. A clone, else each row would keep its whole padded batch.
                result[index] = replace(examples[index], states=states[row, :length].clone())
        return result

    @torch.no_grad()
    def agrees(self, cached: Sequence[Example], padding: int, device: torch.device) -> bool:
        """True when z from the cached states equals z from the tokens, on the given examples."""
        self._network.eval()
        batch = collate(cached, padding).to(device)
        whole = self._network.embed(batch)
        with self.resumed():
            resumed = self.embed(batch)
        return bool(((whole * resumed).sum(dim=1) > 1 - _TOLERANCE).all())

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Takes the frozen layers out of the encoder while `embed` is used, and puts them back."""
        encoder = self._network.encoder  # the list of layers is swapped in whatever module holds it
        owner, name = next(
            (module, name)
            for module in encoder.modules()
            for name, child in module.named_children()
            if child is self._layers
        )
        # A slice holds the same modules, so what is trained in it is trained in the encoder.
        setattr(owner, name, self._layers[self._frozen :])
        try:
            yield
        finally:
            setattr(owner, name, self._layers)

    def embed(self, batch: TrainingBatch) -> Tensor:
        """Embeds from the batch's cached states: z, shape (B, d); inside `resumed` only."""
        states = batch.states
        if states is None or self._embeddings is None:
            raise ValueError("there are no cached states to start from")

        def substitute(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return states.to(output.dtype)

        # The embeddings still run, which costs little; what they give is replaced.
        handle = self._embeddings.register_forward_hook(substitute)
        try:
            return self._network.embed(batch)
        finally:
            handle.remove()

    def _states(self, batch: TrainingBatch) -> Tensor:
        states: list[Tensor] = []

        def capture(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            # The input of the first trained layer: the output of the last frozen one is a tuple in some encoders.
            states.append(inputs[0])
            raise _FirstTrainedLayer

        handle = self._layers[self._frozen].register_forward_pre_hook(capture)
        try:
            self._network.embed(batch)
        except _FirstTrainedLayer:
            pass
        finally:
            handle.remove()
        return states[0]
