"""Words that docs/glossary.md avoids are no names in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def avoided() -> set[str]:
    """Words of the first column of the table that is about names."""
    table = GLOSSARY[GLOSSARY.index("| not | but |") : GLOSSARY.index("| not | for | but |")]
    rows = re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE)[1:]
    return {word for row in rows for word in row.split(", ")}


def names() -> Iterator[tuple[str, str]]:
    """(where, name) of every module, class and function."""
    for folder in ("app", "worker", "pawl"):
        for path in (ROOT / folder).rglob("*.py"):
            where = str(path.relative_to(ROOT))
            yield where, path.stem
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{where}:{node.lineno}", node.name


def test_words_to_avoid_are_no_names() -> None:
    words = avoided()
    assert {"panel", "lot", "succession"} <= words
    assert not words & {"not", "but"}
    used = {
        f"{where} {name}"
        for where, name in names()
        if words & {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    }
    assert used == set()


def test_a_term_has_one_line() -> None:
    terms = [
        term.strip()
        for row in re.findall(
            r"^\| ([^|]+) \| [^|]+ \|$", GLOSSARY[: GLOSSARY.index("## Words to avoid")], re.MULTILINE
        )
        for term in row.split(",")
        if row not in {"term", "word"}
    ]
    assert len(terms) > 100
    assert sorted({term for term in terms if terms.count(term) > 1}) == []


def test_a_variable_says_what_it_is() -> None:
    row = re.search(r"^\| ([a-z, ]+) \| a variable \|", GLOSSARY, re.MULTILINE)
    assert row is not None
    words = set(row[1].split(", "))
    assert "one" in words
    used = []
    for folder in ("app", "worker", "pawl"):
        for path in (ROOT / folder).rglob("*.py"):
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    for node in ast.walk(function):
                        name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else ""
                        if name in words:
                            used.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} {name}")
    assert used == []
