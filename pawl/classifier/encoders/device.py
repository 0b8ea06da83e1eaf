"""Where and in which precision torch computes."""

from __future__ import annotations

from typing import Literal

import torch

from pawl.processes.processor import processor_field
from pawl.processes.threads import thread_count

_NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86 has the first two, ARM the last


def choose_device(setting: str) -> torch.device:
    """The device for `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(setting)


def use_bfloat16(setting: Literal["auto", "on", "off"], device: torch.device) -> bool:
    """True when to compute in bfloat16; `auto` only where the device does so natively, elsewhere it is slower."""
    if setting != "auto":
        return setting == "on"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not _NATIVE_BF16.isdisjoint(processor_field("flags", "Features").split())


def configure_training(threads: int) -> None:
    """Threads, TF32 where a GPU has it, and kernels that give the same numbers each time, for this process."""
    torch.set_num_threads(thread_count(threads))
    torch.set_float32_matmul_precision("high")
    # Warnings instead of errors: some CUDA kernels have no deterministic form, and a training must not end by that.
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
