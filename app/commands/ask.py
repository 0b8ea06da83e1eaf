"""`pawl predict`, `feedback`, `promote`, `consolidate`: one call to the running service each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.table import Table

from app.commands.client import Service
from app.commands.terminal import CommandFailed, notes, out, print_json, print_line

POLL_SECONDS = 0.1


def predict(service: Service, texts: list[str], task: str, top_k: int, as_json: bool) -> None:
    """Answers as a table, or the service's JSON."""
    answer = service.post("/v1/predict", {"texts": texts, "task": task, "top_k": top_k})
    if as_json:
        print_json(answer)
        return
    table = Table(box=None, pad_edge=False, caption=f"version {answer['version']}", caption_justify="left")
    for heading in ("label", "score", "novelty", "id", "text"):
        table.add_column(heading, overflow="fold" if heading == "id" else "ellipsis", no_wrap=heading != "label")
    for text, prediction in zip(texts, answer["predictions"], strict=True):
        others = [f"{s['label']} {s['score']:.3f}" for s in prediction.get("scores", [])[1:]]
        label = "\n".join([prediction["label"], *others])
        table.add_row(
            label, f"{prediction['score']:.3f}", f"{prediction['novelty']:.2f}", prediction["id"] or "-", text
        )
    out.print(table, markup=False)


def feedback(service: Service, item: dict[str, Any], wait: bool, as_json: bool) -> None:
    """Sends one label; with `wait`, returns when it was learned and is served."""
    receipt: dict[str, Any] = service.post("/v1/feedback", item)["items"][0]
    if wait:
        receipt = follow(service, receipt["id"])
    if as_json:
        print_json(receipt)
        return
    learned = receipt.get("learned_in_version")
    reason = f" ({receipt['reason']})" if receipt.get("reason") else ""
    version = f" in version {learned}" if learned is not None else ""
    print_line(f"{receipt['id']} {receipt['state']}{version}{reason}")


def follow(service: Service, feedback_id: str, seconds: float = 120.0) -> dict[str, Any]:
    """Waits until a feedback has a final state and, where it was learned, until its version answers."""

    def settled() -> dict[str, Any] | None:
        state = service.get(f"/v1/feedback/{feedback_id}")
        if state["state"] == "queued":
            return None
        learned = state.get("learned_in_version")
        return state if learned is None or (service.served() or 0) >= learned else None

    return _wait_for(settled, seconds, f"{feedback_id} is still queued; is the learner running? See `pawl status`.")


def promote(service: Service, number: int, reason: str, as_json: bool) -> None:
    """Rolls back to (or forces) a version; prints the number it was given."""
    version = service.post(f"/v1/versions/{number}/promote", {"reason": reason})
    if as_json:
        print_json(version)
    else:
        print_line(f"version {version['number']} is live, with the model of version {number}")


def consolidate(service: Service, wait: bool, seconds: float = 24 * 3600.0) -> None:
    """Asks for a consolidation; with `wait`, returns when its candidate was promoted or refused.

    Raises `CommandFailed` when it was refused.
    """
    before = _newest(service)
    service.post("/v1/consolidations", {})
    if not wait:
        print_line("asked for a consolidation; follow it with `pawl status` or GET /v1/events")
        return

    def finished() -> dict[str, Any] | None:
        versions = service.get("/v1/versions", limit=50)["items"]
        made = [v for v in versions if v["number"] > before and v["kind"] == "consolidation"]
        return made[0] if made else None

    with notes.status("consolidating"):
        version = _wait_for(finished, seconds, "the consolidation has not ended yet; see `pawl status`", every=1.0)
    if version["state"] == "refused":
        raise CommandFailed(
            f"candidate {version['number']} was refused by the gate; the live version stays",
            f"See why with `pawl versions {version['number']}`.",
        )
    print_line(f"version {version['number']} is live")


def _newest(service: Service) -> int:
    items = service.get("/v1/versions", limit=1)["items"]
    return int(items[0]["number"]) if items else 0


def _wait_for(
    check: Callable[[], dict[str, Any] | None], seconds: float, late: str, every: float = POLL_SECONDS
) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found is not None:
            return found
        time.sleep(every)
    raise CommandFailed(late)
