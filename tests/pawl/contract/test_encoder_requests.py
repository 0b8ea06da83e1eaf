"""The contract of requests for another encoder, on every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pawl.domain.encoders import EncoderChoice, EncoderRequestState
from pawl.domain.errors import EncoderRequestNotFound
from tests.pawl.contract.backends import OpenStores

CHOICE = EncoderChoice("some/encoder", None, "query: ", 256, 3, "float32", 1280, 0, 4096)


async def test_a_request_waits_until_it_is_settled(stores: OpenStores) -> None:
    ledger = stores.ledger
    assert await ledger.last_encoder_request() is None
    made = await ledger.request_encoder(CHOICE, "German texts", None)
    assert made.id.startswith("en_")
    assert (made.state, made.choice, made.reason, made.settled_at) == ("pending", CHOICE, "German texts", None)
    assert await ledger.last_encoder_request() == await ledger.encoder_request(made.id) == made
    stores.clock.advance(seconds=5)
    report = {"tasks": {"default": {"live": 0.5, "candidate": 0.75}}}
    settled = await ledger.settle_encoder_request(made.id, EncoderRequestState.APPLIED, version=7, report=report)
    assert (settled.state, settled.version, settled.report) == ("applied", 7, report)
    assert settled.settled_at == stores.clock.now()
    again = await ledger.settle_encoder_request(made.id, EncoderRequestState.FAILED, problem="too late")
    assert again == settled
    told = await ledger.events(0, 10)
    assert [event.type for event in told] == ["encoder_requested", "encoder_settled"]
    assert told[-1].payload["version"] == 7
    with pytest.raises(EncoderRequestNotFound, match="en_none"):
        await ledger.encoder_request("en_none")


async def test_the_same_request_is_one_and_another_takes_its_place(stores: OpenStores) -> None:
    ledger = stores.ledger
    first = await ledger.request_encoder(CHOICE, "a", None)
    assert await ledger.request_encoder(CHOICE, "b", None) == first
    second = await ledger.request_encoder(CHOICE, "b", "because I say so")
    third = await ledger.request_encoder(replace(CHOICE, encoder="another"), None, None)
    assert len({first.id, second.id, third.id}) == 3
    gone = [await ledger.encoder_request(one.id) for one in (first, second)]
    assert [(one.state, one.problem) for one in gone] == [
        ("failed", f"replaced by {second.id}"),
        ("failed", f"replaced by {third.id}"),
    ]
    assert await ledger.last_encoder_request() == third
