"""A task that does not move is measured once, and anew after each change of it or of the setting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pawl.classifier.lexical_head import WordsAlone
from tests.worker.examples import examples, learner, teach
from worker.model import words_alone as module
from worker.model.novelty_reference import lexical_novelty_of


def test_what_has_not_changed_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[float | None] = []
    measure = module._measure

    def noted(*args: Any) -> Any:
        measured.append(args[2])
        return measure(*args)

    monkeypatch.setattr(module, "_measure", noted)
    task = learner()
    known = teach(task, [*examples("a", 40), *examples("b", 40)], [], bulk=True)
    novelty = lexical_novelty_of(task)

    def ask(loss: float | None) -> WordsAlone:
        return module.words_alone(task, None, novelty, loss, np.zeros(0, np.uint64))

    first = ask(0.0)
    assert (ask(0.0).temperature, ask(0.0).threshold) == (first.temperature, first.threshold)
    assert measured == [0.0]
    ask(5.0)
    ask(0.0)
    assert measured == [0.0, 5.0, 0.0]
    teach(task, examples("c", 5), known)
    assert ask(0.0).temperature != first.temperature
    assert measured == [0.0, 5.0, 0.0, 0.0]
