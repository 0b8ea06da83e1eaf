"""The table of all settings, made from `Settings`: `python -m tests.docs.settings_table > docs/settings.md`"""

from __future__ import annotations

import sys

from pydantic_core import PydanticUndefined

from app.commands.console.terminal import allowed_values
from pawl.settings import PREFIX, Settings

_HEAD = """\
# Settings

Each is an environment variable. A name that does not exist and a value that is not allowed stop the start, with the
name, the value and what is allowed. This page is made from `pawl/settings/` by
`python -m tests.docs.settings_table`.

| name | default | allowed | |
|---|---|---|---|
"""


def settings_page() -> str:
    """The text of `docs/settings.md`."""
    rows = []
    own = Settings.__annotations__
    for name, field in sorted(Settings.model_fields.items(), key=lambda item: item[0] not in own):  # else as written
        default = "" if field.default in {None, PydanticUndefined} else f"`{field.default}`"
        allowed = allowed_values(name).replace("|", "\\|")
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {allowed} | {meaning} |\n")
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(settings_page())
