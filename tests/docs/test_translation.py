"""README.zh-CN.md says what README.md says: the same commands, sections, tables, numbers, settings and links."""

from __future__ import annotations

import re
from collections import Counter

from tests.app.commands.processes import ROOT

ENGLISH, CHINESE = (
    (ROOT / name).read_text(encoding="utf-8").replace("README.zh-CN.md", "README").replace("README.md", "README")
    for name in ("README.md", "README.zh-CN.md")
)
_BLOCK = re.compile(r"```.*?```", re.DOTALL)
_COMMENT = re.compile(r"\s+# .*")


def _prose(page: str) -> str:
    return _BLOCK.sub("", page)


def _tables(page: str) -> list[list[str]]:
    return [match.group(0).splitlines() for match in re.finditer(r"(?:^\|.*\n)+", _prose(page), re.MULTILINE)]


def _numbers(line: str) -> list[str]:
    # Not the digits of a name (B1, int8, p50, float32).
    return sorted(re.findall(r"(?<![A-Za-z\d.])\d[\d,.^]*(?<![,.])", line))


def test_every_command_is_the_same_one_by_one() -> None:
    """Comments are translated; all else in a block, with what it prints, is what was run."""
    blocks = [[_COMMENT.sub("", line) for line in block.splitlines()] for block in _BLOCK.findall(ENGLISH)]
    translated = [[_COMMENT.sub("", line) for line in block.splitlines()] for block in _BLOCK.findall(CHINESE)]
    assert len(blocks) > 15
    for block, other in zip(blocks, translated, strict=True):
        assert other == block
    assert CHINESE.count("<!-- tested -->\n```") == ENGLISH.count("<!-- tested -->\n```")


def test_no_comment_was_left_in_english() -> None:
    comments = re.findall(r"^\$ .*?\s# (.*)$", CHINESE, re.MULTILINE)
    assert len(comments) > 10
    assert [comment for comment in comments if comment.isascii()] == []


def test_sections_match() -> None:
    levels, others = (re.findall(r"^(#+) \S", _prose(page), re.MULTILINE) for page in (ENGLISH, CHINESE))
    assert others == levels
    for section, other in zip(
        *(re.split(r"^#+ ", _prose(page), flags=re.MULTILINE) for page in (ENGLISH, CHINESE)), strict=True
    ):
        assert _names(other) == _names(section), other[:20]
        assert (section.count("\n* "), section.count("\n|")) == (other.count("\n* "), other.count("\n|")), other[:20]


def _names(section: str) -> tuple[Counter[str], set[str]]:
    """Code and links, whatever language is around them."""
    code = Counter(re.findall(r"`[^`]+`", section))
    return code, set(re.findall(r"\]\(([^)#]+)\)|<(http[^>]+)>", section))


def test_tables_have_the_same_numbers() -> None:
    for table, other in zip(_tables(ENGLISH), _tables(CHINESE), strict=True):
        for row, translated in zip(table, other, strict=True):
            assert row.count("|") == translated.count("|"), translated
            assert _numbers(translated) == _numbers(row), translated


def test_each_leads_to_the_other() -> None:
    assert "[简体中文](README)" in ENGLISH[:200]
    assert "[English](README)" in CHINESE[:200]


def test_it_is_written_as_chinese_is() -> None:
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", _prose(CHINESE))
    half_width = r"[\u4e00-\u9fff][,:;?!]|[,:;?!][\u4e00-\u9fff]"
    assert re.findall(half_width, prose) == []
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 3000
