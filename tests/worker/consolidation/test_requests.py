"""A consolidation that somebody asked for is started once, whatever is restarted in between."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.versions import CONSOLIDATION_ASKED, CONSOLIDATION_STARTED
from pawl.ports import FeedbackStream
from pawl.settings import Settings
from worker import consolidator
from worker.consolidator import Consolidator
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState

_STATE = cast("LearnerState", SimpleNamespace(version=7))


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consolidator, "_LOOK_SECONDS", -1.0)


def _started_on(database: AsyncEngine, home: Path) -> Consolidator:
    nothing: Any = None
    ports = LearnerPorts(SqlSampleStore(database), SqlVersionLedger(database), nothing, nothing, nothing, nothing)
    return Consolidator(ports, nothing, nothing, Settings(home=home))


async def test_a_request_is_taken_once(database: AsyncEngine, tmp_path: Path) -> None:
    learner, ledger = _started_on(database, tmp_path), SqlVersionLedger(database)
    assert not await learner.take_cause(_STATE)
    await ledger.append_event(CONSOLIDATION_ASKED, {"trigger": "api"})
    await ledger.append_event("feedback_learned", {})
    assert await learner.take_cause(_STATE)
    assert not await learner.take_cause(_STATE)


async def test_a_request_made_while_no_learner_ran_is_found_and_one_that_was_met_is_not(
    database: AsyncEngine, tmp_path: Path
) -> None:
    ledger = SqlVersionLedger(database)
    await ledger.append_event(CONSOLIDATION_ASKED, {"trigger": "api"})
    assert await _started_on(database, tmp_path).take_cause(_STATE), "the one before died before it could start"
    await ledger.append_event(CONSOLIDATION_STARTED, {})
    for _ in range(consolidator._EVENT_PAGE + 1):
        await ledger.append_event("consolidation_progress", {})
    assert not await _started_on(database, tmp_path).take_cause(_STATE)
    await ledger.append_event(CONSOLIDATION_ASKED, {"trigger": "api"})
    assert await _started_on(database, tmp_path).take_cause(_STATE)


async def test_a_request_whose_start_failed_is_found_again(database: AsyncEngine, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file stands where the jobs' folder would be made")
    learner, ledger = _started_on(database, home), SqlVersionLedger(database)
    await ledger.append_event(CONSOLIDATION_ASKED, {"trigger": "api"})
    cause, stream = await learner.take_cause(_STATE), cast("FeedbackStream", None)
    assert cause
    with pytest.raises(OSError, match="Not a directory"):
        await learner.start(_STATE, cause, stream)
    assert await learner.take_cause(_STATE) == cause
