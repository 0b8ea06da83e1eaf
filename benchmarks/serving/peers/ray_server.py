"""Ray Serve with its batching on."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from model import BATCH_WAIT_SECONDS, LARGEST_BATCH, Model
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Classifier:
    """One replica: two cores have no room for more."""

    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=LARGEST_BATCH, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def batch(self, texts: list[str]) -> list[dict[str, Any]]:
        """A batch that Ray Serve made of single requests."""
        return self.model.predict(texts)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One text."""
        return dict(await self.batch((await request.json())["text"]))


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Classifier.bind(), route_prefix="/predict")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
