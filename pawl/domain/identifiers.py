"""Identifiers that sort by the time they were made. Standard library only."""

from __future__ import annotations

import secrets
import time
import uuid

SAMPLE_PREFIX = "fb_"
PREDICTION_PREFIX = "pr_"
LABEL_CHANGE_PREFIX = "lc_"
IMPORT_PREFIX = "im_"
ENCODER_REQUEST_PREFIX = "en_"

# Where RFC 9562 has the version and the variant among the 128 bits.
_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62
_MASK_62 = (1 << 62) - 1


def new_identifier(prefix: str) -> str:
    """`prefix` and the 32 hex digits of a UUID version 7 (RFC 9562): 48 bits of milliseconds, then 74 random bits.

    Identifiers of different milliseconds sort by time; within one millisecond their order is random.
    """
    milliseconds = time.time_ns() // 1_000_000
    bits = secrets.randbits(74)  # one call: each asks the kernel
    random_a, random_b = bits >> 62, bits & _MASK_62
    value = milliseconds << 80 | _VERSION_7 | random_a << 64 | _VARIANT | random_b
    return prefix + uuid.UUID(int=value).hex
