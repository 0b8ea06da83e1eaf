"""Reads and writes arrays in safetensors files: float32, and uint64 where said. What is read is checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats

Integers = npt.NDArray[np.uint64]


def tensor_bytes(tensors: Mapping[str, Floats | Integers]) -> bytes:
    """Returns the bytes of a safetensors file; equal arrays give equal bytes. Integers are kept as uint64."""
    return save({name: np.ascontiguousarray(array, dtype=_kind(array)) for name, array in tensors.items()})


def read_tensors(path: Path, dimensions: Mapping[str, int], integers: Collection[str] = ()) -> dict[str, Any]:
    """Reads exactly the named arrays; `dimensions` says how many axes each has, `integers` which are uint64.

    Raises `ArtefactCorrupt` when the file is missing or damaged, when an array is missing, extra, not float32 (or
    uint64), of another rank or not finite.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtefactCorrupt(path=path, problem=f"not a safetensors file: {error}") from error
    if set(tensors) != set(dimensions):
        raise ArtefactCorrupt(path=path, problem=f"it holds {sorted(tensors)}, expected {sorted(dimensions)}")
    for name, rank in dimensions.items():
        array = tensors[name]
        kind = np.dtype(np.uint64 if name in integers else np.float32)
        if array.dtype != kind or array.ndim != rank:
            problem = f"{name} is {array.dtype} of shape {array.shape}, expected {kind} with {rank} axes"
            raise ArtefactCorrupt(path=path, problem=problem)
        # A digest proves that a file is as written, not that what was written was a number.
        if not np.isfinite(array).all():
            raise ArtefactCorrupt(path=path, problem=f"{name} has values that are not finite")
    return tensors


def _kind(array: Floats | Integers) -> type[np.uint64] | type[np.float32]:
    return np.uint64 if np.issubdtype(array.dtype, np.integer) else np.float32
