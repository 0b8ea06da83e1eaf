"""The table of folders in docs/design.md is the tree."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "worker", "pawl", "migrations")


def test_the_table_of_folders_is_the_tree() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- folders -->\n```\w*\n(.*?)```\n<!-- /folders -->", page, re.DOTALL)
    assert block is not None
    rows = [line.split(maxsplit=1) for line in block[1].splitlines()]
    assert [row for row in rows if len(row) != 2] == [], "each folder, and what is in it"
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in files}
    assert sorted(folder for folder, _ in rows) == sorted(folders)
