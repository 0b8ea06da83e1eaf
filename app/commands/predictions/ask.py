"""`pawl predict`, `feedback`, `consolidate`: one call to the running service each."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from app.commands.console.client import ServiceAway, ServiceClient
from app.commands.console.terminal import EXIT_PARTIAL, CommandFailed, notes, print_json, print_line
from app.commands.predictions.bulk import in_one

POLL_SECONDS = 0.1
_LOOK_SECONDS = 5.0
_DESERTED_SECONDS = 60.0
_SHOWN_CHARACTERS = 100


def predict(service: ServiceClient, texts: list[str], task: str, top_k: int, *, as_json: bool) -> None:
    """Each text with its labels, novelty and prediction id; or the service's JSON."""
    answer = in_one(service, texts, task, top_k)
    if as_json:
        print_json(answer)
        return
    for text, prediction in zip(texts, answer["predictions"], strict=True):
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "\u2026"
        scores = ", ".join(f"{each['label']} {each['score']:.3f}" for each in prediction["scores"])
        print_line(" ".join(shown.split()))
        print_line(f"  {scores}   novelty {prediction['novelty']:.2f}   {prediction['id'] or ''}".rstrip())
        for warning in prediction.get("warnings", ()):
            print_line(f"  warning: {warning}")
    print_line(f"version {answer['version']}")


def feedback(service: ServiceClient, item: dict[str, Any], *, wait: bool, as_json: bool) -> int:
    """Sends one label; with `wait`, returns when it is settled, and served where it was learned.

    Returns the exit code: `EXIT_PARTIAL` where it was waited for and not learned.
    """
    receipt: dict[str, Any] = service.post("/v1/feedback", item)["items"][0]
    for warning in receipt.get("warnings", ()):
        notes.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if wait:
        receipt = follow(service, receipt["id"])
    code = EXIT_PARTIAL if wait and receipt["state"] not in {"learned", "golden"} else 0
    if as_json:
        print_json(receipt)
        return code
    learned = receipt.get("learned_in_version")
    reason = f" ({receipt['reason']})" if receipt.get("reason") else ""
    version = f" in version {learned}" if learned is not None else ""
    print_line(f"{receipt['id']} {receipt['state']}{version}{reason}")
    return code


def follow(service: ServiceClient, feedback_id: str, seconds: float = 120.0) -> dict[str, Any]:
    """Waits until a feedback has a final state and, where it was learned, until its version answers."""

    def settled() -> dict[str, Any] | None:
        state = service.get(f"/v1/feedback/{feedback_id}")
        if state["state"] == "queued":
            return None
        learned = state.get("learned_in_version")
        return state if learned is None or (service.served() or 0) >= learned else None

    return wait_for(settled, seconds, f"{feedback_id} is still queued; is the learner running? See `pawl status`.")


def consolidate(service: ServiceClient, *, wait: bool) -> None:
    """Asks for a consolidation; with `wait`, shows its progress and returns when a version came of it.

    Raises `CommandFailed` when the gate refused its candidate, or when it failed.
    """
    if not wait:
        service.post("/v1/consolidations", {})
        print_line("asked for a consolidation; follow it with `pawl status` or GET /v1/events")
        return
    service.get("/v1/model")  # says so at once where nothing runs, or where there is nothing to consolidate
    asked, deserted = False, _Deserted(service)
    with notes.status("waiting for the learner") as shown:
        for kind, data in service.events():
            if not asked and kind != "quiet":  # only now, when nothing it does can be missed
                service.post("/v1/consolidations", {})
                asked = True
            with suppress(ServiceAway):  # a service that restarts
                deserted.check()
            if kind == "consolidation_progress":
                steps = f" {data['done']}/{data['total']}" if data.get("total") else ""
                shown.update(f"{data.get('phase')}{steps}")
            elif kind == "consolidation_failed":
                raise CommandFailed(f"the consolidation failed: {data.get('problem')}", "The live version stays.")
            elif kind == "consolidation_unchanged":
                print_line("training found no better encoder than the live one; nothing changed")
                return
            elif data.get("kind") == "consolidation":
                _tell_outcome(kind, data)
                return


class _Deserted:
    """Notices, at most every few seconds, that no learner has been alive for a while."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self._seen = self._asked = time.monotonic()

    def check(self) -> None:
        """Raises `CommandFailed` where nobody is there to do what was asked for."""
        now = time.monotonic()
        if now - self._asked < _LOOK_SECONDS:
            return
        self._asked = now
        learner = self._service.get("/v1/model")["learner"]
        if learner is None or learner["alive"]:  # none is known of while the database does not answer
            self._seen = now
        elif now - self._seen > _DESERTED_SECONDS:
            raise CommandFailed(
                "no learner is running; what was asked for is kept, and the next one does it",
                "Start it with `pawl up` or `pawl work`.",
                EXIT_PARTIAL,
            )


def _tell_outcome(kind: str, data: dict[str, Any]) -> None:
    number = data["version"]
    if kind != "version_promoted":
        raise CommandFailed(
            f"the gate refused candidate {number}; the live version stays",
            f"See why with `pawl versions {number}`.",
        )
    print_line(f"version {number} is live")


def wait_for(
    check: Callable[[], dict[str, Any] | None], seconds: float, late: str, every: float = POLL_SECONDS
) -> dict[str, Any]:
    """Polls until the check finds something, also through a restart of the service.

    Raises `CommandFailed` saying what is `late`: it was asked for, and is not done yet.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ServiceAway):
            found = check()
            if found is not None:
                return found
        time.sleep(every)
    raise CommandFailed(late, code=EXIT_PARTIAL)
