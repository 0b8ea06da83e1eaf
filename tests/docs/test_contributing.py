"""The worked examples of CONTRIBUTING.md are run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tests.app.commands.processes import ROOT
from tests.app.world import World, assert_problem
from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.network import Network

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str) -> dict[str, Any]:
    """The names that an example's block defines."""
    [block] = re.findall(rf"<!-- tested: {name} -->\n   ```python\n(.*?)   ```\n", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": f"example_{name}"}
    exec(compile("\n".join(line[3:] for line in block.splitlines()), f"CONTRIBUTING.md: {name}", "exec"), names)  # noqa: S102 - our own page
    return names


def test_the_training_method_is_one() -> None:
    kind: Any = example("method")["GradientNoise"]
    assert issubclass(kind, Method)
    assert all(name in vars(Method) for name in vars(kind) if not name.startswith("_"))
    assert kind.of(SimpleNamespace(gradient_noise=0.0)) is None
    method = kind.of(SimpleNamespace(gradient_noise=0.5))
    encoder = nn.Linear(2, 2)
    method.before_training(Network(encoder, []))
    encoder.weight.grad = torch.zeros(2, 2)
    method.after_backward()
    assert torch.all(encoder.weight.grad != 0.0)


async def test_the_route_answers(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.app.include_router(example("route")["router"])
    async with world.client() as client:
        assert (await client.get("/v1/tasks/default")).json()["name"] == "default"
        assert_problem(await client.get("/v1/tasks/nothing"), 404)
