"""The benchmark of words runs from end to end."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import lexical


def test_words_are_timed_and_their_heads_weighed(tmp_path: Path) -> None:
    options = ["--size", "256", "--words", "12", "--samples", "30", "300", "--rounds", "5", "--corrections", "4"]
    lexical.main(["--results", str(tmp_path), *options])
    found = json.loads((tmp_path / "lexical.json").read_text())["results"]
    [texts], [few, many] = found["texts"], found["heads"]
    assert 0.0 < texts["together"]["features_us_undisturbed"] < texts["one"]["features_us_undisturbed"]
    assert few["snapshot_mib"] < many["snapshot_mib"]
    assert few["correction_p50_ms"] > 0.0
    assert len(found["goals"]) == 1
