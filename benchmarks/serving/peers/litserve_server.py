"""LitServe with its batching on."""

from __future__ import annotations

import sys
from typing import Any

import litserve
from model import BATCH_WAIT_SECONDS, LARGEST_BATCH, Model


class Api(litserve.LitAPI):
    """Texts in, labels out."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Loads the model in the worker."""
        self.model = Model()

    def decode_request(self, request: dict[str, str]) -> str:
        """The text."""
        return request["text"]

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """A batch."""
        return self.model.predict(list(texts))

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=LARGEST_BATCH, batch_timeout=BATCH_WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
