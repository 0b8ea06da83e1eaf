"""The quick form of `python -m tests.chaos.paused_servers`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.http.paused import outside
from tests.chaos.paused_servers import installation, measure
from tests.processes import Installation


@pytest.mark.timeout(300)
async def test_predictions_go_on_and_feedback_is_answered_while_servers_stand_still(
    short_folder: Path, tmp_path: Path, trained_installation: Installation
) -> None:
    with outside(short_folder / "chaos") as servers:
        pawl = installation(tmp_path / "home", servers, Path(trained_installation.settings.encoder))
        try:
            report = await measure(pawl, servers, 4.0)
        finally:
            pawl.end()
    for phase in report.phases:
        assert phase.failures == []
        assert len(phase.predictions) > 40, "at 20 a second"
    quiet, postgres, _, redis, _ = report.phases
    assert 202 in quiet.feedback
    assert 503 in postgres.feedback, "what was sent in its last seconds is a 202, in time"
    assert 202 in redis.feedback, "Redis is not needed"
    assert report.accepted >= 30
    assert report.learned == report.accepted, report.text()
