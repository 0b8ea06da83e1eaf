"""The options that commands share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pawl.settings import Settings, load_settings

if TYPE_CHECKING:
    from app.commands.console.client import ServiceClient

Home = Annotated[Path | None, typer.Option(help="Folder for all data. Default: PAWL_HOME, else ~/.pawl.")]
Url = Annotated[str | None, typer.Option(help="Address of the service. Default: the one `pawl up` runs at.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
FileFormat = Annotated[
    str | None, typer.Option("--format", help="csv, tsv, jsonl, xlsx, parquet or txt. Default: found by looking.")
]
FileEncoding = Annotated[
    str | None, typer.Option("--encoding", help="Of a text file: utf-8, utf-16, cp1252, ... Default: found by looking.")
]
FileDelimiter = Annotated[
    str | None, typer.Option("--delimiter", help="Of CSV: a character, or `tab`. Default: found by looking.")
]
FileSheet = Annotated[str | None, typer.Option("--sheet", help="Of a workbook. Default: the first that is not empty.")]
CreateTask = Annotated[bool, typer.Option("--create-task", help="The task may be one that is not there yet.")]
Task = Annotated[str, typer.Option(help="Label set the labels belong to.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit log.")]
By = Annotated[str | None, typer.Option(help="Who decides. Default: the user name.")]
ChangeReason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the lineage.")]
Everything = Annotated[bool, typer.Option("--all", help="All that the filters leave, instead of ids.")]
OnlyTask = Annotated[str | None, typer.Option("--task", help="Only this label set.")]
OnlySource = Annotated[str | None, typer.Option("--source", help="Only from this source.")]
OnlyLabel = Annotated[str | None, typer.Option("--label", help="Only with this label.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="How many to list.")]


def settings_with(**overrides: Any) -> Settings:
    """The settings from the environment, and the options that were given."""
    return load_settings(**{name: value for name, value in overrides.items() if value is not None})


def given(**options: str | None) -> dict[str, str]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def service_at(url: str | None, home: Path | None) -> ServiceClient:
    """A client of the service at the URL, or of the one that runs on the home."""
    from app.commands.console.client import ServiceClient, service_url  # httpx: commands that talk to nobody wait less

    return ServiceClient(service_url(settings_with(home=home), url))
