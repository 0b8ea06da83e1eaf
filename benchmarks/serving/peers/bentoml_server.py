"""BentoML with its adaptive batching on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

sys.path.insert(0, str(Path(__file__).parent))
from model import LARGEST_BATCH, Model


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    """Holds the model."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=LARGEST_BATCH, max_latency_ms=20_000, route="/batch")
    def batch(self, texts: list[str]) -> list[dict[str, Any]]:
        """A batch that BentoML made of single requests."""
        return self.model.predict(texts)


@bentoml.service(workers=1, traffic={"timeout": 60})
class Front:
    """One text in a request: BentoML batches between services."""

    classifier = bentoml.depends(Classifier)

    @bentoml.api(route="/predict")
    async def predict(self, one: dict[str, str]) -> dict[str, Any]:
        """Waits for its place in a batch."""
        found = await self.classifier.to_async.batch([one["text"]])
        return dict(found[0])


if __name__ == "__main__":
    here = Path(__file__).parent
    os.chdir(here)
    command = ["-m", "bentoml", "serve", "bentoml_server:Front", "--host", "127.0.0.1", "--port", sys.argv[1]]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - becomes the server, no shell
