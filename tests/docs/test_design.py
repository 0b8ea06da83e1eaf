"""What docs/design.md says of the tree is true, and links within pages lead somewhere."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PAGES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
_TREE = r"(?:app|worker|pawl|migrations|tests|benchmarks|docs)/"


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def test_lines_can_be_read() -> None:
    assert [line for line in DESIGN.splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_every_invariant_has_its_test() -> None:
    rows = re.findall(r"^\| (\d) \| \*(.+?)\.\* \| `(tests/invariants/test_\1_\w+\.py)` \|$", DESIGN, re.MULTILINE)
    assert [number for number, _, _ in rows] == [str(number) for number in range(1, 10)]
    assert {path for _, _, path in rows} == {
        f"tests/invariants/{path.name}" for path in (ROOT / "tests" / "invariants").glob("test_[1-9]_*.py")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    """But for the log, which tells of the past."""
    if page.name == "log.md":
        return
    named = set(re.findall(rf"`({_TREE}[\w/.-]*)(?:`|::)", page.read_text(encoding="utf-8")))
    examples = {name for name in named if "gradient_noise" in name}
    assert sorted(name for name in named - examples if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            assert anchor in headings(page.parent / target if target else page), f"{target}#{anchor}"


@cache
def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_functions_that_the_walks_name_exist() -> None:
    walks = DESIGN[DESIGN.index("### The walk of") : DESIGN.index("## 7. ")]
    steps = re.findall(rf"`({_TREE}[\w/]+\.py)::([\w.]+)`", walks)
    assert len(steps) > 20
    assert [f"{path}::{name}" for path, name in steps if name not in definitions(ROOT / path)] == []


@cache
def definitions(path: Path) -> set[str]:
    """Functions, classes, and methods as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{it.name}" for it in node.body if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return names
