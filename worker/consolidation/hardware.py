"""Where and in which precision to train."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from pawl.processes.threads import thread_count

_NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86 has the first two, ARM the last
_CPU_INFO = Path("/proc/cpuinfo")


def choose_device(setting: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:1`."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(setting)


def use_bfloat16(setting: Literal["auto", "on", "off"], device: torch.device) -> bool:
    """True when to train in bfloat16; `auto` only where the device computes it natively, elsewhere it is slower."""
    if setting != "auto":
        return setting == "on"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not _NATIVE_BF16.isdisjoint(flags)


def configure_torch(threads: int) -> None:
    """Threads, TF32 where a GPU has it, and kernels that give the same numbers each time."""
    torch.set_num_threads(thread_count(threads))
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
