"""Use a version without the service: label the lines of stdin.

python examples/offline.py HOME_OR_VERSION [TASK] < texts.txt
"""

from __future__ import annotations

import sys

from pawl import load


def main(folder: str, task: str = "default") -> None:
    """Prints label, score, novelty and text of each line, separated by tabs."""
    model = load(folder)
    texts = [line.strip() for line in sys.stdin if line.strip()]
    for text, answer in zip(texts, model.predict(texts, task=task), strict=True):
        print(f"{answer.label}\t{answer.score:.3f}\t{answer.novelty:.2f}\t{text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
