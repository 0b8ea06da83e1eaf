"""Ask, correct what was wrong, and ask again for answers that have learned it.

python examples/correct.py [URL]
"""

from __future__ import annotations

import sys

from pawl import Client, Correction
from pawl.client import PredictionBatch

TRUTH = {
    "does the warranty cover a broken hinge": "warranty",
    "how long is the guarantee on your kettles": "warranty",
    "my tracking page is empty": "order_status",
}


def main(url: str) -> None:
    """Prints the answers before and after."""
    with Client(url, tries=3) as pawl:
        before = pawl.predict(list(TRUTH))
        show(before)
        wrong = [
            Correction(label, prediction_id=answer.id)
            for answer, label in zip(before.predictions, TRUTH.values(), strict=True)
            if answer.label != label
        ]
        if wrong:
            learned = pawl.wait_until_learned(pawl.feedback(wrong))
            show(pawl.predict(list(TRUTH), min_version=learned, wait_seconds=10.0))


def show(answer: PredictionBatch) -> None:
    """One line for each text."""
    print(f"version {answer.version}")
    for text, prediction in zip(TRUTH, answer.predictions, strict=True):
        print(f"  {prediction.label:<20} {prediction.score:.2f}  {text}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
