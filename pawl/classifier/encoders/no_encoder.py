"""No encoder: what stands in its place where heads answer by words alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pawl.classifier.encoders.spec import NO_ENCODER_SPEC
from pawl.ports import Floats


class NoEncoder:
    """Implements the port `Encoder` with embeddings of no numbers. It reads nothing, so nothing is too long for it."""

    library = "none"
    failures = 0
    spec = NO_ENCODER_SPEC
    dimension = NO_ENCODER_SPEC.dimension

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), 0), float32."""
        return np.zeros((len(texts), self.dimension), dtype=np.float32)
