"""An encoder that cannot be used is refused once, with its name, when the learner starts; everybody can read why."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from pawl.classifier.encoders.export import export_encoder
from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import EncoderRejected
from pawl.domain.learner import EncoderState, LearnerStatus
from pawl.domain.samples import NewSample
from pawl.domain.versions import Event
from pawl.settings import load_settings
from tests.intents import labelled
from tests.pawl.classifier.architectures import CONFIGS, write_encoder_of
from tests.pawl.classifier.unusable import UNUSABLE, missing
from tests.polling import eventually
from tests.processes import PATIENCE, Installation
from worker.assembly import open_learner
from worker.updates.encoder_check import check_pruning

_CANNOT_BE_PRUNED = {"distilbert", "modernbert", "qwen2", "gpt2"}


async def _refused(pawl: Installation) -> tuple[LearnerStatus, list[Event]]:
    """Starts a learner in this process; what it said until it refused."""
    engine = connect(pawl.settings.sql_url)
    ledger = SqlVersionLedger(engine)
    try:
        await upgrade(engine)
        async with open_learner(pawl.settings) as loop:
            with pytest.raises(EncoderRejected):
                await asyncio.wait_for(loop.run(), 120)
        status = await ledger.learner_status()
        assert status is not None
        return status, await ledger.events(0, 100)
    finally:
        await engine.dispose()


@pytest.mark.parametrize("kind", UNUSABLE)
async def test_an_encoder_that_cannot_be_used_is_told_to_the_person_who_chose_it(tmp_path: Path, kind: str) -> None:
    write, problem = UNUSABLE[kind]
    write(tmp_path / "chosen")
    status, events = await _refused(Installation(tmp_path / "home", encoder=tmp_path / "chosen"))
    assert status.encoder is EncoderState.REFUSED
    assert re.search(f"The encoder at {tmp_path / 'chosen'}.* cannot be used: .*{problem}", status.problem)
    assert [event.type for event in events] == ["learner_troubled"], "said once"


@pytest.mark.parametrize("architecture", CONFIGS)
def test_pruning_that_a_layer_cannot_do_is_known_before_anything_is_trained(tmp_path: Path, architecture: str) -> None:
    folder = write_encoder_of(architecture, tmp_path / "chosen")
    settings = load_settings(home=tmp_path, encoder=str(folder), compression="prune:0.5")
    if architecture not in _CANNOT_BE_PRUNED:
        check_pruning(folder, settings)
        return
    with pytest.raises(EncoderRejected, match=rf"{folder}.*PAWL_COMPRESSION=prune:0.5 is not possible.*none or int8"):
        check_pruning(folder, settings)


async def test_a_learner_does_not_start_with_a_pruning_that_its_encoder_cannot_do(tmp_path: Path) -> None:
    folder = write_encoder_of("gpt2", tmp_path / "chosen")
    status, _ = await _refused(Installation(tmp_path / "home", encoder=folder, compression="prune:0.3"))
    assert "PAWL_COMPRESSION=prune:0.3 is not possible with it" in status.problem


async def test_a_first_version_is_not_tried_again_and_again_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it turns out only when the first version is made: the learner goes on, and says so."""
    write_encoder_of("bert", tmp_path / "chosen")
    pawl = Installation(tmp_path / "home", encoder=tmp_path / "chosen")
    engine = connect(pawl.settings.sql_url)
    ledger = SqlVersionLedger(engine)
    tries: list[str] = []

    def reject(*args: object, **kwargs: object) -> str:
        tries.append("export")
        raise EncoderRejected(path=tmp_path / "chosen", problem="it has changed")

    await upgrade(engine)
    async with open_learner(pawl.settings) as loop:
        learning = asyncio.create_task(loop.run())
        try:
            await eventually(lambda: _says(ledger, EncoderState.USABLE), PATIENCE, every=0.05)
            for folder in (pawl.home / "encoders").iterdir():
                missing(folder)
            monkeypatch.setattr("pawl.classifier.encoders.export.export_encoder", reject)
            await SqlSampleStore(engine).accept([NewSample(text, label) for text, label in labelled(40)])
            await eventually(lambda: _says(ledger, EncoderState.REFUSED), PATIENCE, every=0.05)
            await asyncio.sleep(1.0)
            assert tries == ["export"]
            assert not learning.done()
            status = await ledger.learner_status()
            assert status is not None
            assert "it has changed" in status.problem
            assert (await SqlSampleStore(engine).backlog()).length == 40, "no sample is given up for it"
        finally:
            loop.stop()
            await learning
            await engine.dispose()


async def _says(ledger: SqlVersionLedger, wanted: EncoderState) -> bool:
    status = await ledger.learner_status()
    return status is not None and status.encoder is wanted


async def test_what_is_the_places_fault_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_encoder_of("bert", tmp_path / "chosen")
    pawl = Installation(tmp_path / "home", encoder=tmp_path / "chosen")
    tries: list[str] = []

    def full(*args: object, **kwargs: object) -> str:
        tries.append("export")
        if len(tries) < 3:
            raise OSError(28, "No space left on device")
        return export_encoder(*args, **kwargs)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("pawl.classifier.encoders.export.export_encoder", full)
    engine = connect(pawl.settings.sql_url)
    ledger = SqlVersionLedger(engine)
    await upgrade(engine)
    async with open_learner(pawl.settings) as loop:
        learning = asyncio.create_task(loop.run())
        try:
            await eventually(lambda: _says(ledger, EncoderState.USABLE), PATIENCE, every=0.05)
            assert len(tries) == 3
            assert [event.type for event in await ledger.events(0, 10)] == ["learner_troubled", "learner_recovered"]
        finally:
            loop.stop()
            await learning
            await engine.dispose()
