"""The page about serving says what was measured."""

from __future__ import annotations

from benchmarks.serving.page import PAGE, page


def test_the_page_is_what_the_committed_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m benchmarks.serving.page`"
