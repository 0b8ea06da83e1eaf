"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from app.commands.console.terminal import EXIT_USAGE, CommandFailed
from app.commands.data.files.delimited import Lines
from app.commands.data.files.encodings import detect, named_encoding
from app.commands.data.files.records import Contents, Reading, Record, Source


def read_json_lines(source: Source, reading: Reading, max_bytes: int) -> Contents:
    """Objects, each with its own keys."""
    encoding = named_encoding(reading.encoding) if reading.encoding else detect(source.file, source.name)
    first = next((line for line in Lines(source, encoding) if line.strip()), "")
    if first.lstrip().startswith("["):
        raise CommandFailed(
            f"{source.name} is one JSON array; JSON lines have one object on each line",
            f"Convert it: jq -c '.[]' {source.name} > rows.jsonl",
            EXIT_USAGE,
        )
    return Contents(f"JSON lines, {encoding.name}", None, _records(Lines(source, encoding), max_bytes))


def _records(lines: Lines, max_bytes: int) -> Iterator[Record]:
    for content in lines:
        if not content.strip():
            continue
        if len(content) > 2 * max_bytes:
            yield Record(lines.number, None, f"the line is longer than {2 * max_bytes} characters", content[:200])
            continue
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            yield Record(lines.number, None, f"not valid JSON: {error}", content.rstrip("\r\n"))
            continue
        if isinstance(record, dict):
            yield Record(lines.number, record, raw=record)
        else:
            yield Record(lines.number, None, "not a JSON object", record)
