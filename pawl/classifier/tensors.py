"""Reads and writes float32 arrays in safetensors files; what is read is checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats


def tensor_bytes(tensors: Mapping[str, Floats]) -> bytes:
    """Returns the bytes of a safetensors file; equal arrays give equal bytes."""
    return save({name: np.ascontiguousarray(array, dtype=np.float32) for name, array in tensors.items()})


def read_tensors(path: Path, dimensions: Mapping[str, int]) -> dict[str, Floats]:
    """Reads exactly the named arrays; `dimensions` says how many axes each has.

    Raises `ArtefactCorrupt` when the file is missing or damaged, when an array is missing, extra, not float32, of
    another rank or not finite.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtefactCorrupt(path=path, problem=f"not a safetensors file: {error}") from error
    if set(tensors) != set(dimensions):
        raise ArtefactCorrupt(path=path, problem=f"it holds {sorted(tensors)}, expected {sorted(dimensions)}")
    for name, rank in dimensions.items():
        array = tensors[name]
        if array.dtype != np.float32 or array.ndim != rank:
            problem = f"{name} is {array.dtype} of shape {array.shape}, expected float32 with {rank} axes"
            raise ArtefactCorrupt(path=path, problem=problem)
        # A digest proves that a file is as written, not that what was written was a number.
        if not np.isfinite(array).all():
            raise ArtefactCorrupt(path=path, problem=f"{name} has values that are not finite")
    return tensors
