"""`pawl consolidate` and `pawl tune`: training the encoder, and the search for its settings."""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.console.options import Home, Url, service_at, settings_with
from app.commands.console.terminal import EXIT_PARTIAL, CommandFailed, ServiceAway, notes, print_line
from pawl.json_values import Json

if TYPE_CHECKING:
    from app.commands.console.client import ServiceClient

_LOOK_SECONDS = 5.0
_DESERTED_SECONDS = 60.0


def consolidate(
    wait: Annotated[bool, typer.Option("--wait", help="Return when its candidate was promoted or refused.")] = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Ask the learner to fine-tune the encoder on what it has learned."""
    with service_at(url, home) as service:
        if wait:
            _consolidate_and_wait(service)
        else:
            service.post("/v1/consolidations", {})
            print_line("asked for a consolidation; follow it with `pawl status` or GET /v1/events")


def _consolidate_and_wait(service: ServiceClient) -> None:
    """Shows the progress, and returns when a version came of it.

    Raises `CommandFailed` when the gate refused its candidate, or when it failed.
    """
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
                shown.update(progress_line(data))
            elif kind == "consolidation_failed":
                raise CommandFailed(f"the consolidation failed: {data.get('problem')}", "The live version stays.")
            elif kind == "consolidation_unchanged":
                print_line("training found no better encoder than the live one; nothing changed")
                return
            elif data.get("kind") == "consolidation":
                _tell_outcome(kind, data)
                return


def progress_line(data: Json) -> str:
    """`training 120/545: 4 of 12 layers, 28.4 of 108.9 million parameters; about 12 min left`."""
    steps = f" {data['done']}/{data['total']}" if data.get("total") else ""
    trains = f": {data['trains']}" if "trains" in data else ""
    left = f"; about {math.ceil(data['seconds_left'] / 60)} min left" if "seconds_left" in data else ""
    return f"{data.get('phase')}{steps}{trains}{left}"


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


def _tell_outcome(kind: str, data: Json) -> None:
    number = data["version"]
    if kind != "version_promoted":
        raise CommandFailed(
            f"the gate refused candidate {number}; the live version stays",
            f"See why with `pawl versions {number}`.",
        )
    print_line(f"version {number} is live")


def tune(
    trials: Annotated[int, typer.Option(min=1, help="Trainings to try at most.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.0, help="Stop after so many minutes; 0: no limit.")] = 0.0,
    home: Home = None,
) -> None:
    """Search the consolidation's settings on your own samples and write the best to HOME/recommended.env.

    It needs 250 samples that the encoder was not trained on, and says at once where there are fewer.
    Learning rate, epochs, weight decay, L2-SP, FGM and, once an encoder was trained, replay and distillation.
    Each trial is a real training, judged on samples set aside for that, never on held-out or golden ones. Changes
    nothing by itself, and may run beside `pawl up`. Ctrl-C keeps what was found.
    """
    from app.commands.home.learner import require_worker
    from pawl.processes.children import module_command

    settings = settings_with(home=home)
    require_worker()
    os.environ["PAWL_HOME"] = str(settings.home_path)
    search = module_command("worker.tune", "--trials", str(trials), "--minutes", str(minutes))
    os.execv(sys.executable, search)  # noqa: S606 - becomes the search, no shell
