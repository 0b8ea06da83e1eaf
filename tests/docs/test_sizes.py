"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("app", "benchmarks", "examples", "migrations", "pawl", "tests", "worker")
_FILES = sorted(path for folder in _FOLDERS for path in (_ROOT / folder).rglob("*.py"))
_FILE_LINES, _FUNCTION_LINES = 300, 60


def test_files_are_short() -> None:
    lines = {str(path.relative_to(_ROOT)): path.read_text(encoding="utf-8").count("\n") for path in _FILES}
    assert "tests/docs/test_sizes.py" in lines
    assert {name: count for name, count in lines.items() if count > _FILE_LINES} == {}


def test_functions_are_short() -> None:
    lines: dict[str, int] = {}
    for path in _FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines[f"{path.relative_to(_ROOT)}: {node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    assert lines["tests/docs/test_sizes.py: test_functions_are_short"] > 5
    assert {name: count for name, count in lines.items() if count > _FUNCTION_LINES} == {}
