"""What `pawl consolidate --wait` shows while it waits."""

from __future__ import annotations

from app.commands.versions.consolidation import progress_line


def test_a_line_of_training_says_what_trains_and_for_how_long() -> None:
    trains = "4 of 12 layers, 28.4 of 108.9 million parameters"
    data = {"phase": "training", "done": 120, "total": 545, "trains": trains, "seconds_left": 661}
    assert progress_line(data) == f"training 120/545: {trains}; about 12 min left"
    assert progress_line({"phase": "embedding", "done": 512, "total": 900}) == "embedding 512/900"
    assert progress_line({"phase": "loading", "done": 0, "total": 0}) == "loading"
