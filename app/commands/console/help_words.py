"""Help in words: what an option takes is a noun (`FOLDER`, `NUMBER`) and not a type of Python (`<str>`)."""

from __future__ import annotations

from typing import Any, cast

from typer.core import TyperGroup

_WORDS = {
    "home": "FOLDER",
    "url": "URL",
    "host": "ADDRESS",
    "port": "PORT",
    "task": "TASK",
    "label": "LABEL",
    "source": "NAME",
    "by": "NAME",
    "reason": "SENTENCE",
    "prediction_id": "ID",
    "text_column": "COLUMN",
    "label_column": "COLUMN",
    "seconds": "SECONDS",
    "minutes": "MINUTES",
}
_TYPES = {"int": "NUMBER", "float": "NUMBER", "bool": "", "path": "FILE", "file": "FILE", "directory": "FOLDER"}


class Words(TyperGroup):
    """The group of all commands. Its help, and that of every command below it, names values by nouns."""

    def get_params(self, ctx: Any) -> Any:
        """See `typer.core.TyperGroup.get_params`."""
        params = super().get_params(ctx)
        for param in params:
            _name(param)
        return params

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See `typer.core.TyperGroup.get_command`."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _name_all(command, ctx)
        return command


def _name_all(command: Any, ctx: Any) -> None:
    for param in command.get_params(ctx):
        _name(param)
    for below in getattr(command, "commands", {}).values():
        _name_all(below, ctx)


def _name(param: Any) -> None:
    kind = param.bare_type() if not param.type_descriptor.is_path else "path"
    if param.param_type_name == "argument":
        if param.metavar is None:
            param.metavar = cast("str", param.name).upper()
        # Its name is the word, and stands in the column before.
        param.display_type_rich = lambda ctx: None  # noqa: ARG005 - Typer says `ctx=`
    elif param.metavar is None:
        param.metavar = _WORDS.get(param.name, _TYPES.get(kind, "TEXT")) if kind != "bool" else ""
