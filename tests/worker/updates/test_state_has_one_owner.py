"""The learner's state is replaced by `StepRunner` alone, and no object sets an attribute of another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from pawl.domain.versions import VersionKind
from tests.worker.lives import Lived
from worker.updates.step import Step

WORKER = Path(__file__).parents[3] / "worker"
ROOMS = ("updates", "screening", "health", "release")
BUILDERS = {"bisection.py", "baseline.py", "bootstrap.py", "encoder_swap.py"}
"""They apply proposals to models of their own: copies, and those of a state that nobody has yet."""


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    files = [*WORKER.glob("*.py"), *(path for room in ROOMS for path in (WORKER / room).rglob("*.py"))]
    return ((path, ast.parse(path.read_text())) for path in files)


def _targets(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Attributes that are assigned to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node


def test_nothing_sets_an_attribute_of_another_object() -> None:
    own = {"self", "self._result", "child"}  # `child`: the consolidator's own record of its child process
    found = [
        f"{path.name}:{target.lineno} {ast.unparse(target)}"
        for path, tree in _modules()
        for target in _targets(tree)
        if ast.unparse(target.value) not in own
    ]
    assert found == []


def test_the_step_runner_alone_changes_a_model_that_serves() -> None:
    changing = {"apply", "add_to_evaluation", "drop_from_evaluation"}
    found = {
        path.name
        for path, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in changing and "label" not in ast.unparse(node.value)
    }
    assert found - BUILDERS == {"step_runner.py"}


async def test_a_step_on_a_state_that_was_replaced_is_refused(lived: Lived) -> None:
    runner, before = lived.learner.runner, lived.state
    with pytest.raises(FrozenInstanceError):
        before.version = 7  # type: ignore[misc] # that is the test
    runner.mark_consolidated(3)
    assert lived.state == replace(before, encoder_watermark=3)
    with pytest.raises(RuntimeError, match="replaced"):
        await runner.run(before, Step(VersionKind.HEAD, "test", {}))
    assert (await lived.learner.ledger.next_number()) == 2
