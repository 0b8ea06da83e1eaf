"""Where the output of child processes goes, and what of it is told at once."""

from __future__ import annotations

import json
import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES = 10 * 2**20
LOG_FILES = 3
_ERROR_LEVELS = frozenset({"error", "critical"})


def log_to(path: Path | None) -> logging.Handler:
    """A handler for a file of bounded size or, without a path, for standard output."""
    if path is None:
        return logging.StreamHandler(sys.stdout)
    return RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8")


def error_in(line: str) -> str | None:
    """The message of a JSON log line of level error or worse."""
    if not line.startswith("{"):  # lines of Redis and of libraries are not JSON
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("level") not in _ERROR_LEVELS:
        return None
    details = {k: v for k, v in record.items() if k not in {"level", "event", "timestamp", "exception", "logger"}}
    fields = " ".join(f"{key}={value}" for key, value in details.items())
    return f"{record.get('event', 'error')} {fields}".strip()[:500]
