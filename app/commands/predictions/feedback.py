"""`pawl feedback`: the right label of one text, and waiting until it is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.console.options import AsJson, CreateTask, Home, Url, service_at
from app.commands.console.terminal import EXIT_PARTIAL, EXIT_USAGE, CommandFailed, notes, print_json, print_line
from app.commands.console.waiting import wait_for
from pawl.domain.samples import DEFAULT_TASK
from pawl.json_values import Json

if TYPE_CHECKING:
    from app.commands.console.client import ServiceClient


def feedback(
    label: Annotated[str, typer.Option(help="The right label; a new one makes a new class.")],
    prediction_id: Annotated[str | None, typer.Option("--id", help="Id of the prediction that was wrong.")] = None,
    text: Annotated[str | None, typer.Option(help="The text itself, instead of an id.")] = None,
    task: Annotated[str | None, typer.Option(help=f"With --text: the label set. Default: {DEFAULT_TASK}.")] = None,
    create_task: CreateTask = False,
    source: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it was learned and is served.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Send the right label of a text or of an earlier prediction."""
    if (prediction_id is None) == (text is None):
        raise CommandFailed("give either --id PREDICTION_ID or --text TEXT", code=EXIT_USAGE)
    item: Json = {
        "prediction_id": prediction_id,
        "text": text,
        "task": task,
        "source": source,
        "label": label,
        "create_task": create_task or None,
    }
    with service_at(url, home) as service:
        sent = {name: value for name, value in item.items() if value is not None}
        receipt: Json = service.post("/v1/feedback", sent)["items"][0]
        for warning in receipt.get("warnings", ()):
            notes.print(f"warning: {warning}", markup=False, soft_wrap=True)
        if wait:
            receipt = _follow(service, receipt["id"])
    if as_json:
        print_json(receipt)
    else:
        learned = receipt.get("learned_in_version")
        why = f" ({receipt['reason']})" if receipt.get("reason") else ""
        version = f" in version {learned}" if learned is not None else ""
        print_line(f"{receipt['id']} {receipt['state']}{version}{why}")
    if wait and receipt["state"] not in {"learned", "golden"}:
        raise typer.Exit(EXIT_PARTIAL)


def _follow(service: ServiceClient, feedback_id: str) -> Json:
    """Waits until a feedback has a final state and, where it was learned, until its version answers."""

    def settled() -> Json | None:
        state = service.get(f"/v1/feedback/{feedback_id}")
        if state["state"] == "queued":
            return None
        learned = state.get("learned_in_version")
        # Learned is not yet served: the service loads the version a moment after its promotion.
        return state if learned is None or (service.served() or 0) >= learned else None

    return wait_for(settled, f"{feedback_id} is still queued; is the learner running? See `pawl status`.")
