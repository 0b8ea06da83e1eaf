"""Logs: one JSON object a line on stderr. Texts of clients are never logged."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor


def logs_to_stderr() -> None:
    """Sends logs to stderr, so that the stdout of a command with `--json` stays JSON."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def configure_logs(level: str) -> None:
    """Sends structlog and the standard library's loggers (uvicorn, SQLAlchemy, alembic) through one JSON renderer.

    `level` is `debug`, `info`, `warning` or `error`. Calling it again replaces the configuration.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("uvicorn", "uvicorn.error", "alembic", "sqlalchemy", "httpx"):
        logger = logging.getLogger(chatty)
        logger.handlers.clear()
        logger.propagate = True
        # SQLAlchemy's `info` has every statement with its values, among them texts of clients.
        logger.setLevel(max(logging.WARNING, root.level))
