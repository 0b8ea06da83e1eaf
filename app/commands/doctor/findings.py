"""What a check of `pawl doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckResult(StrEnum):
    """How bad a finding is. `doctor` exits with status 1 where one is `fail`."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report, and what to do about it."""

    part: str
    outcome: CheckResult
    detail: str
    remedy: str = ""


def ok(part: str, detail: str) -> Finding:
    """All is well."""
    return Finding(part, CheckResult.OK, detail)


def warn(part: str, detail: str, remedy: str = "") -> Finding:
    """It works, but not as it should, or nothing needs it yet."""
    return Finding(part, CheckResult.WARN, detail, remedy)


def fail(part: str, detail: str, remedy: str = "") -> Finding:
    """It does not work."""
    return Finding(part, CheckResult.FAIL, detail, remedy)
