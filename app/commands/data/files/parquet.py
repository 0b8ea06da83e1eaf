"""Parquet files, read a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

from app.commands.console.terminal import EXIT_USAGE, CommandFailed
from app.commands.data.files.extras import need
from app.commands.data.files.records import Contents, Record, Source

_BATCH = 1000


def read_parquet(source: Source) -> Contents:
    """The rows; nested columns are left out."""
    need("pyarrow", "Parquet files")
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    source.file.seek(0)
    try:
        file = ParquetFile(source.file)
        names = list(file.schema_arrow.names)
    except (ArrowException, OSError, ValueError) as error:
        raise CommandFailed(f"{source.name} is damaged or no Parquet file: {error}", code=EXIT_USAGE) from error

    def records() -> Iterator[Record]:
        line = 0
        try:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    line += 1
                    yield Record(line, row, raw=row)
        except (ArrowException, OSError, ValueError) as error:
            raise CommandFailed(f"{source.name} is damaged after row {line}: {error}") from error

    return Contents(f"Parquet, {file.metadata.num_rows} rows", names, records())
