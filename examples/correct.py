"""Ask, correct what was wrong, and ask again for answers that have learned it.

python examples/correct.py [URL]
"""

from __future__ import annotations

import sys
import time
import uuid
from typing import Any

import httpx

TRUTH = {
    "does the warranty cover a broken hinge": "warranty",
    "how long is the guarantee on your kettles": "warranty",
    "my tracking page is empty": "order_status",
}


def main(url: str) -> None:
    """Prints the answers before and after."""
    with httpx.Client(base_url=url, timeout=30.0) as pawl:
        before = call(pawl, "/v1/predict", {"texts": list(TRUTH)})
        show(before)
        wrong = [
            {"prediction_id": answer["id"], "label": label}
            for answer, label in zip(before["predictions"], TRUTH.values(), strict=True)
            if answer["label"] != label
        ]
        if not wrong:
            return
        receipts = call(pawl, "/v1/feedback", {"items": wrong})["items"]
        learned = max(wait_until_learned(pawl, receipt["id"]) for receipt in receipts)
        show(call(pawl, "/v1/predict", {"texts": list(TRUTH), "min_version": learned, "wait_ms": 10_000}))


def call(pawl: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON answer of a POST. With the key, a feedback that is sent again after a time-out counts once."""
    answer = pawl.post(path, json=body, headers={"idempotency-key": uuid.uuid4().hex})
    return dict(answer.raise_for_status().json())


def wait_until_learned(pawl: httpx.Client, feedback_id: str) -> int:
    """The version that learned it; raises where it was quarantined, say, because the gate refused it."""
    while True:
        state = pawl.get(f"/v1/feedback/{feedback_id}").raise_for_status().json()
        if state["state"] == "learned":
            return int(state["learned_in_version"])
        if state["state"] != "queued":
            raise RuntimeError(f"{feedback_id} is {state['state']}: {state['reason']}")
        time.sleep(0.1)


def show(answer: dict[str, Any]) -> None:
    """One line for each text."""
    print(f"version {answer['version']}")
    for text, prediction in zip(TRUTH, answer["predictions"], strict=True):
        print(f"  {prediction['label']:<20} {prediction['score']:.2f}  {text}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
