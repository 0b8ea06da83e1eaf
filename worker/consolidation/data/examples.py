"""From samples to tokenised examples with targets: labels, and what the live model says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pawl.classifier.classifier import Classifier
from pawl.domain.samples import Sample
from pawl.ports import Floats
from worker.consolidation.data.batches import Example, Target

Tokenise = Callable[[Sequence[str]], list[list[int]]]
LabelSpaces = dict[str, dict[str, int]]
"""Task -> label -> column. Tasks in sorted order; the live model's labels first, in its order."""


def label_spaces(samples: Iterable[Sample], known: Mapping[str, Sequence[str]]) -> LabelSpaces:
    """The columns of each task's head. `known` are the labels of the live model, which come first."""
    labels: dict[str, set[str]] = {}
    for sample in samples:
        labels.setdefault(sample.task, set()).add(sample.label)
    spaces: LabelSpaces = {}
    for task in sorted(labels):
        old = list(known.get(task, ()))
        # The live labels first: the teacher's K probabilities are then the first K columns (`distillation`).
        columns = [*old, *sorted(labels[task] - set(old))]
        spaces[task] = {label: column for column, label in enumerate(columns)}
    return spaces


def make_examples(
    samples: Sequence[Sample],
    spaces: LabelSpaces,
    tokenise: Tokenise,
    teachers: Mapping[str, Floats],
) -> list[Example]:
    """One example for each text: a text with labels in several tasks is encoded once.

    `teachers` are the live model's probabilities by sample id, for the samples that are replayed.
    """
    tasks = {task: index for index, task in enumerate(spaces)}
    targets: dict[str, list[Target]] = {}
    for sample in samples:
        column = spaces[sample.task][sample.label]
        target = Target(tasks[sample.task], column, sample.weight, teachers.get(sample.id))
        targets.setdefault(sample.text, []).append(target)
    tokens = tokenise(list(targets))
    return [Example(tuple(ids), tuple(labels)) for ids, labels in zip(tokens, targets.values(), strict=True)]


def live_probabilities(classifier: Classifier, samples: Sequence[Sample], z: Floats) -> dict[str, Floats]:
    """The live model's calibrated probabilities, shape (K,), for each sample whose task it knows. `z` is (n, d)."""
    answers: dict[str, Floats] = {}
    for task, heads in classifier.heads.items():
        rows = [row for row, sample in enumerate(samples) if sample.task == task]
        for start in range(0, len(rows), 1024):  # phi is (n, d + M + 1): not for all of them at once
            part = rows[start : start + 1024]
            words = heads.words([samples[row].text for row in part])
            probabilities = heads.probabilities(classifier.features.expand(z[part]), words)
            answers.update((samples[row].id, p) for row, p in zip(part, probabilities, strict=True))
    return answers
