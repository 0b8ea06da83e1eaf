"""Reading labelled files: columns, bad rows and where they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.commands.console.terminal import CommandFailed
from app.commands.data.files.columns import Columns, choose_columns
from app.commands.data.files.formats import opened, read_contents
from app.commands.data.files.records import Reading
from app.commands.data.files.rows import BadRow, Row, read_rows

MAX_BYTES = 1000


def read(path: Path, content: bytes | str, text: str | None = None, label: str | None = None) -> list[Row | BadRow]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with opened(path) as source:
        found = list(read_rows(read_contents(source, Reading(), MAX_BYTES), text, label, MAX_BYTES))
    return [replace(row, raw=None) for row in found]


def test_csv_with_a_byte_order_mark_quotes_and_lines_inside_a_field(tmp_path: Path) -> None:
    content = '\ufefftext,label\r\n"hello, ""you""",greeting\r\n\r\n"two\nlines", question \r\nbye,farewell'
    assert read(tmp_path / "a.csv", content) == [
        Row(2, 'hello, "you"', "greeting"),
        Row(4, "two\nlines", "question"),
        Row(6, "bye", "farewell"),
    ]


def test_jsonl(tmp_path: Path) -> None:
    lines = [{"id": 1, "text": "a b", "intent": "x"}, {"intent": "y", "text": "c\u00e9"}]
    content = "\n\n".join(json.dumps(line) for line in lines)
    assert read(tmp_path / "a.jsonl", content) == [Row(1, "a b", "x"), Row(3, "cé", "y")]


@pytest.mark.parametrize(
    ("found", "columns"),
    [
        (["text", "label"], Columns("text", "label")),
        (["id", "Sentence", "Sentiment", "split"], Columns("Sentence", "Sentiment")),
        (["text", "category"], Columns("text", "category")),
        (["question", "text", "label", "topic"], Columns("text", "label")),
        (["utterance", "what it means"], Columns("utterance", "what it means")),
        (["what was said", "intent"], Columns("what was said", "intent")),
        (["Nr", "Nachricht", "Kategorie"], Columns("Nachricht", "Kategorie")),
        (["Text", "Etikett", "Datum"], Columns("Text", "Etikett")),
        (["编号", "文本", "标签"], Columns("文本", "标签")),
        ([" 内容 ", "类别"], Columns(" 内容 ", "类别")),
    ],
)
def test_obvious_columns(found: list[str], columns: Columns) -> None:
    assert choose_columns(found, None, None) == columns


@pytest.mark.parametrize("found", [["text", "topic", "sentiment"], ["a", "b"], ["text", "x", "y"], ["label"], ["text"]])
def test_columns_that_are_not_obvious_are_asked_for(found: list[str]) -> None:
    with pytest.raises(CommandFailed, match=", ".join(found)) as failure:
        choose_columns(found, None, None)
    assert "--label-column" in failure.value.hint
    assert failure.value.code == 2


def test_a_named_column_wins_and_must_exist() -> None:
    assert choose_columns(["text", "topic", "sentiment"], None, "topic") == Columns("text", "topic")
    with pytest.raises(CommandFailed, match=r"no column 'mood'.*text, topic"):
        choose_columns(["text", "topic"], None, "mood")


def test_bad_csv_rows_are_named_by_line_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = [
        b"text,label",
        "fine: \u00e4\u00f6\u00fc\u00df \u00e9\u00e8".encode() + b",a",
        b"  ,a",  # 3
        b"no label,",
        b"a NUL \0,a",
        b"latin \xe9,a",
        b"too,many,fields",
        b"x," + b"l" * 201,
        b"y" * (MAX_BYTES + 1) + b",a",
        b"control,\x07",
        b"fine too,b",
    ]
    found = read(tmp_path / "a.csv", b"\n".join(rows))
    assert [row for row in found if isinstance(row, Row)] == [Row(2, "fine: äöüß éè", "a"), Row(11, "fine too", "b")]
    bad = {row.line: row.problem for row in found if isinstance(row, BadRow)}
    assert sorted(bad) == [3, 4, 5, 6, 7, 8, 9, 10]
    for line, word in {3: "text", 4: "label", 5: "NUL", 6: "not UTF-8", 7: "3 fields", 8: "200", 9: "1000"}.items():
        assert word in bad[line]


def test_bad_json_lines_are_named(tmp_path: Path) -> None:
    lines = [
        '{"text": "fine", "label": "a"}',
        '{"text": "cut off", "label": ',
        "[1, 2]",
        '{"text": [5], "label": "a"}',
        '{"text": "number", "label": 1.5}',
        '{"label": "a"}',
        '{"text": "lone \\ud800", "label": "a"}',
        "[" * 1900,
        '{"text": "' + "z" * 3000 + '", "label": "a"}',
        '{"text": "fine too", "label": "b"}',
    ]
    found = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert [row.line for row in found if isinstance(row, BadRow)] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [row.line for row in found if isinstance(row, Row)] == [1, 10]


def test_an_unclosed_quote_is_named_and_does_not_swallow_the_file_silently(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", 'text,label\nfine,a\n"open,b\nnext,c\n')
    assert found[0] == Row(2, "fine", "a")
    assert isinstance(found[1], BadRow)
    assert found[1].line == 3


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [("a.csv", "", "empty"), ("a.csv", "text,text\na,b\n", "twice"), ("a.doc", "text,label\n", "--format|not known")],
)
def test_files_that_cannot_be_read_at_all(tmp_path: Path, name: str, content: str, problem: str) -> None:
    with pytest.raises(CommandFailed, match=problem):
        read(tmp_path / name, content)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"cannot read .*nothing\.csv"):
        opened(tmp_path / "nothing.csv").__enter__()


def test_one_column_has_no_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\none, two; three\n"quoted, too"\n')
    with opened(tmp_path / "a.csv") as source:
        contents = read_contents(source, Reading(), MAX_BYTES)
        assert [record.fields for record in contents.records] == [{"text": "one, two; three"}, {"text": "quoted, too"}]
    assert contents.described == "CSV, delimiter none, UTF-8"
