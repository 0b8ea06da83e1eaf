"""JSON objects as Python reads and writes them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
