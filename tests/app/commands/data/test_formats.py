"""Files as people have them: every format gives the same 300 rows, and what is wrong with one is said."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from app.commands.console.terminal import CommandFailed
from app.commands.data.files.formats import opened, read_contents
from app.commands.data.files.records import Reading
from app.commands.data.files.rows import BadRow, Row, read_rows

MAX_BYTES = 2**20
GERMAN = [(f"Meine Überweisung Nr. {n} über {n} € hängt; warum? „Grüße“", f"zahlung_{n % 3}") for n in range(300)]
CHINESE = [(f"我的银行卡第{n}次付款没有成功,请问是什么原因?", "付款问题" if n % 2 else "退款") for n in range(300)]
Pairs = list[tuple[str, str]]


def csv_of(pairs: Pairs, delimiter: str, header: tuple[str, str], first: str = "") -> str:
    def cell(text: str) -> str:
        return f'"{text}"' if delimiter in text or '"' in text else text

    lines = [delimiter.join(map(cell, pair)) for pair in (header, *pairs)]
    return first + "\r\n".join(lines) + "\r\n"


def workbook(
    rows: list[tuple[Any, ...]], name: str = "Tabelle1", before: Callable[[Workbook], None] | None = None
) -> bytes:
    book = Workbook()
    if before:
        before(book)
    sheet = book.active if not before else book.create_sheet(name)
    assert sheet is not None
    sheet.title = name
    for row in rows:
        sheet.append(row)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def parquet(pairs: Pairs, header: tuple[str, str]) -> bytes:
    target = io.BytesIO()
    texts, labels = zip(*pairs, strict=True)
    pq.write_table(pa.table({header[0]: pa.array(texts), header[1]: pa.array(labels).dictionary_encode()}), target)
    return target.getvalue()


def json_lines(pairs: Pairs, header: tuple[str, str]) -> bytes:
    return "".join(
        json.dumps(dict(zip(header, pair, strict=True)), ensure_ascii=False) + "\n" for pair in pairs
    ).encode()


DE, ZH = ("Nachricht", "Kategorie"), ("文本", "标签")
FILES: dict[str, tuple[str, Pairs, Callable[[], bytes], str]] = {
    "commas": ("a.csv", GERMAN, lambda: csv_of(GERMAN, ",", DE).encode(), "delimiter ',', UTF-8"),
    "excel": ("a.csv", GERMAN, lambda: csv_of(GERMAN, ";", DE).encode("cp1252"), "delimiter ';', Windows-1252"),
    "mark": ("a.csv", GERMAN, lambda: csv_of(GERMAN, ";", DE).encode("utf-8-sig"), "delimiter ';', UTF-8"),
    "sep": ("a.csv", GERMAN, lambda: csv_of(GERMAN, "|", DE, "sep=|\r\n").encode("cp1252"), "delimiter '|', Windows"),
    "unicode": ("a.txt.csv", GERMAN, lambda: csv_of(GERMAN, "\t", DE).encode("utf-16"), "delimiter tab, UTF-16"),
    "no mark": ("a.csv", GERMAN, lambda: csv_of(GERMAN, ";", DE).encode("utf-16-le"), "delimiter ';', UTF-16"),
    "big end": ("a.csv", GERMAN, lambda: csv_of(GERMAN, ";", DE).encode("utf-16-be"), "delimiter ';', UTF-16"),
    "tabs": ("a.tsv", GERMAN, lambda: csv_of(GERMAN, "\t", DE).encode(), "delimiter tab, UTF-8"),
    "chinese": ("a.csv", CHINESE, lambda: csv_of(CHINESE, ",", ZH).encode("gb18030"), "delimiter ',', GB18030"),
    "chinese tabs": ("a.tsv", CHINESE, lambda: csv_of(CHINESE, "\t", ZH).encode("gbk"), "delimiter tab, GB18030"),
    "chinese utf-8": ("a.csv", CHINESE, lambda: csv_of(CHINESE, ",", ZH).encode(), "delimiter ',', UTF-8"),
    "chinese utf-16": ("a.csv", CHINESE, lambda: csv_of(CHINESE, "\t", ZH).encode("utf-16"), "delimiter tab, UTF-16"),
    "workbook": ("a.xlsx", GERMAN, lambda: workbook([DE, *GERMAN]), "sheet 'Tabelle1'"),
    "chinese workbook": ("a.xlsx", CHINESE, lambda: workbook([ZH, *CHINESE], "表一"), "sheet '表一'"),
    "parquet": ("a.parquet", GERMAN, lambda: parquet(GERMAN, DE), "Parquet, 300 rows"),
    "chinese parquet": ("a.parquet", CHINESE, lambda: parquet(CHINESE, ZH), "Parquet"),
    "json lines": ("a.jsonl", CHINESE, lambda: json_lines(CHINESE, ZH), "JSON lines, UTF-8"),
    "without a suffix": ("export", GERMAN, lambda: json_lines(GERMAN, DE), "JSON lines, UTF-8"),
    "a wrong suffix": ("a.csv", GERMAN, lambda: workbook([DE, *GERMAN]), "Excel workbook"),
}


def read(path: Path, content: bytes, reading: Reading | None = None) -> tuple[list[Row | BadRow], str]:
    path.write_bytes(content)
    with opened(path) as source:
        contents = read_contents(source, reading or Reading(), MAX_BYTES)
        rows = [replace(row, raw=None) for row in read_rows(contents, None, None, MAX_BYTES)]
    return rows, contents.described


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_its_300_rows(tmp_path: Path, name: str) -> None:
    file, pairs, content, described = FILES[name]
    rows, said = read(tmp_path / file, content())
    assert [(row.text, row.label) for row in rows if isinstance(row, Row)] == pairs
    assert len(rows) == 300
    assert described in said


def test_a_stray_sign_does_not_make_another_code_page(tmp_path: Path) -> None:
    content = csv_of([("Klabin 's Tel+\u00acmaco mill", "a"), *GERMAN], ",", DE)
    rows, said = read(tmp_path / "a.csv", content.encode("cp1252"))
    assert (len(rows), said) == (301, "CSV, delimiter ',', Windows-1252")


def test_what_is_told_wins_over_what_is_found(tmp_path: Path) -> None:
    content = "text\xb6label\nGr\xfc\xdfe\xb6a\n".encode("cp1250")
    rows, said = read(tmp_path / "a.csv", content, Reading(encoding="cp1250", delimiter="\xb6"))
    assert rows == [Row(2, "Grüße", "a")]
    assert "cp1250" in said
    rows, _ = read(tmp_path / "b.dat", b"text;label\none;a\n", Reading(format="csv"))
    assert rows == [Row(2, "one", "a")]


@pytest.mark.parametrize(
    ("encoding", "text", "guess"),
    [
        ("cp1251", "Где моя карта? Перевод не дошёл до получателя", "cp1251"),
        ("cp1250", "Gdzie jest moja karta? Przelew nie dotarł, proszę o pilną pomoc", ""),
        ("cp1250", "Kde je moje karta? Převod ještě nedorazil, prosím o rychlou pomoc, děkuji", ""),
        ("cp1250", "Hol van a kártyám? Az átutalás nem érkezett meg időben, kérem segítsenek, köszönöm", ""),
        ("euc_kr", "내 카드는 어디에 있습니까? 송금이 도착하지 않았습니다", ""),
        ("shift_jis", "カードはどこですか。送金がまだ届いていません", ""),
    ],
)
def test_an_encoding_in_doubt_is_named_and_not_taken(tmp_path: Path, encoding: str, text: str, guess: str) -> None:
    content = "text,label\n" + "".join(f"{text} {n},a\n" for n in range(20))
    with pytest.raises(CommandFailed, match=r"not UTF-8; it looks like") as failure:
        read(tmp_path / "a.csv", content.encode(encoding))
    assert f"--encoding {guess}" in failure.value.hint
    rows, _ = read(tmp_path / "a.csv", content.encode(encoding), Reading(encoding=encoding))
    assert len(rows) == 20


def test_a_wrong_encoding_is_named_with_the_right_one(tmp_path: Path) -> None:
    content = csv_of(GERMAN, ";", DE).encode("cp1252")
    with pytest.raises(
        CommandFailed, match=r"is not ascii \(about line 2\); it looks like Windows-1252: --encoding cp1252"
    ):
        read(tmp_path / "a.csv", content, Reading(encoding="ascii"))
    with pytest.raises(CommandFailed, match=r"is not UTF-8 .*; it looks like Windows-1252: --encoding cp1252"):
        read(tmp_path / "a.csv", content, Reading(encoding="utf-8"))


def test_spreadsheet_values_that_are_no_text(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [
        ("Text", "Etikett", "", None),
        ("eins", 1),
        (12345, 2.0),
        ("drei", date(2024, 3, 1)),
        ("vier", True),
        ("fünf", None),
        ("=A2&B2", "a"),
        ("sieben", "#N/A"),
        (None, None, None),
        ("acht", 1.5),
        ("neun", "ok", None, "beyond"),
        ("zehn", "ok"),
    ]
    found, said = read(tmp_path / "a.xlsx", workbook(rows))
    assert [row for row in found if isinstance(row, Row)] == [
        Row(2, "eins", "1"),
        Row(3, "12345", "2"),
        Row(12, "zehn", "ok"),
    ]
    bad = {row.line: row.problem for row in found if isinstance(row, BadRow)}
    words = {4: "date", 5: "truth", 6: "empty", 7: "formula", 8: "#N/A", 10: "number", 11: "without a name"}
    assert {line: word for line, word in words.items() if word in bad[line]} == words
    assert bad.keys() == words.keys()
    assert "others" not in said


def test_the_first_sheet_that_holds_something_or_the_one_that_is_named(tmp_path: Path) -> None:
    def fill(book: Workbook) -> None:
        book.create_sheet("Notizen").append(("Text", "Etikett"))
        book["Notizen"].append(("anders", "b"))

    content = workbook([DE, ("eins", "a")], "Daten", fill)
    rows, said = read(tmp_path / "a.xlsx", content)
    assert rows == [Row(2, "anders", "b")]
    assert said == "Excel workbook, sheet 'Notizen' (others: 'Daten')"
    rows, said = read(tmp_path / "a.xlsx", content, Reading(sheet="Daten"))
    assert rows == [Row(2, "eins", "a")]
    with pytest.raises(CommandFailed, match=r"no sheet 'x'; there are: 'Sheet', 'Notizen', 'Daten'"):
        read(tmp_path / "a.xlsx", content, Reading(sheet="x"))
    with pytest.raises(CommandFailed, match=r"'Sheet' of a\.xlsx is empty"):
        read(tmp_path / "a.xlsx", content, Reading(sheet="Sheet"))


def test_merged_cells_are_said(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (DE, ("eins", "a"), ("zwei", "")):
        sheet.append(row)
    sheet.merge_cells("B2:B3")
    target = io.BytesIO()
    book.save(target)
    rows, said = read(tmp_path / "a.xlsx", target.getvalue())
    assert "merged" in said
    assert [row.line for row in rows if isinstance(row, BadRow)] == [3]


def bomb() -> bytes:
    target = io.BytesIO(workbook([DE, ("eins", "a")]))
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/zeros.bin", bytes(2**27))
    return target.getvalue()


DAMAGED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "cut off workbook": ("a.xlsx", lambda: workbook([DE, *GERMAN])[:-500], "damaged"),
    "flipped workbook": ("a.xlsx", lambda: _flipped(workbook([DE, *GERMAN])), "damaged"),
    "a bomb": ("a.xlsx", bomb, "would unpack"),
    "another archive": ("a.xlsx", lambda: _archive("content.xml"), "OpenDocument"),
    "cut off parquet": ("a.parquet", lambda: parquet(GERMAN, DE)[:-100], "damaged or no Parquet"),
    "no parquet": ("a.parquet", lambda: b"text,label\n", "damaged or no Parquet"),
    "an old workbook": ("a.xls", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old or a protected"),
    "compressed": ("a.csv.gz", lambda: b"\x1f\x8b\x08" + bytes(20), "gzip"),
    "nothing": ("a.csv", lambda: b"", "is empty"),
    "an empty sheet": ("a.xlsx", lambda: workbook([]), "is empty"),
    "an array": ("a.json", lambda: b'[{"text": "a", "label": "b"}]', "one JSON array"),
    "no header": ("a.csv", lambda: b"hello there,a\nbye,b\n", "cannot tell"),
    "no text": ("a.csv", lambda: bytes(range(128, 256)) * 20, "not UTF-8"),
}


def _flipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        at = archive.getinfo("xl/worksheets/sheet1.xml").header_offset + 200
    return content[:at] + bytes(200) + content[at + 200 :]


def _archive(name: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, "x")
    return target.getvalue()


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_cannot_be_read_is_told_why(tmp_path: Path, name: str) -> None:
    file, content, problem = DAMAGED[name]
    with pytest.raises(CommandFailed, match=problem):
        read(tmp_path / file, content())


def test_an_unclosed_quote_counts_as_the_lines_it_swallowed(tmp_path: Path) -> None:
    lines = ["text,label", "fine,a", '"open,b', *(f"row {n},c" for n in range(50))]
    [good, bad] = read(tmp_path / "a.csv", "\n".join(lines).encode())[0]
    assert good == Row(2, "fine", "a")
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.lines) == (3, 51)
    assert "never closed" in bad.problem


@pytest.mark.parametrize(
    ("file", "reading", "option"),
    [
        ("a.jsonl", Reading(delimiter=";"), "--delimiter"),
        ("a.xlsx", Reading(encoding="utf-8"), "--encoding"),
        ("a.csv", Reading(sheet="x"), "--sheet"),
        ("a.csv", Reading(encoding="klingon"), "no encoding"),
        ("a.csv", Reading(delimiter="ab"), "cannot be a delimiter"),
        ("a.csv", Reading(format="doc"), "no format"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path: Path, file: str, reading: Reading, option: str) -> None:
    content = workbook([DE]) if file == "a.xlsx" else b'{"text": "a", "label": "b"}\n'
    with pytest.raises(CommandFailed, match=option) as failure:
        read(tmp_path / file, content, reading)
    assert failure.value.code == 2


@pytest.mark.parametrize(("library", "file"), [("openpyxl", "a.xlsx"), ("pyarrow", "a.parquet")])
def test_a_missing_library_is_said_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, file: str
) -> None:
    content = workbook([DE]) if file == "a.xlsx" else parquet(GERMAN, DE)
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(CommandFailed, match=f"need {library}") as failure:
        read(tmp_path / file, content)
    assert "pip install " in failure.value.hint
    assert "pawl-server" not in failure.value.hint, "it is on no index"
