"""`pawl status`: what serves, what waits to be learned, how the learner is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.commands.console.options import AsJson, Home, Url, service_at, settings_with
from app.commands.console.terminal import CommandFailed, ago, print_json, print_line, words_in_a_sentence
from pawl.classifier.encoders.spec import NO_ENCODER_DIGEST
from pawl.json_values import Json
from pawl.settings import Settings

if TYPE_CHECKING:
    from app.commands.console.client import ServiceClient

_STALE_SECONDS = 5.0


def status(as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """What serves, what waits to be learned, how the learner is."""
    with service_at(url, home) as service:
        number = service.served()
        model = service.get("/v1/model") if number is not None else None
        if as_json:
            print_json({"url": service.url, "ready": number is not None, "model": model})
            return
        print_line(f"service   {service.url}")
        if model is None:
            print_line("version   not ready; see `pawl doctor`")
        else:
            _print_model(model)
            _print_learning(model)
        _print_own_contradictions(settings_with(home=home), service)


def _print_model(model: Json) -> None:
    """What serves."""
    if model["version"] is None:
        print_line("version   none yet; run `pawl import FILE.csv` or send feedback")
    else:
        print_line(f"version   {model['version']} ({model['kind']}), serving for {ago(model['serving_since'])}")
    if model["version_problem"]:
        print_line(f"problem   {model['version_problem']} (`pawl doctor` says more)")
    if model["encoder_digest"] == NO_ENCODER_DIGEST:
        print_line("encoder   none: words alone answer")
    for task, labels in model["tasks"].items():
        shown = ", ".join(labels[:8]) + (f", ... ({len(labels)} labels)" if len(labels) > 8 else "")
        print_line(f"task      {task}: {shown}")
    for task, words in model["words"].items():
        print_line(f"words     {task}: {words_in_a_sentence(words)}")
    if model["transport"] == "sql":
        print_line("transport no Redis: SQL alone carries corrections (`pawl doctor` says more)")
    for each in model["contradictions"]:
        print_line(f"settings  {each}")


def _print_own_contradictions(settings: Settings, service: ServiceClient) -> None:
    """What the settings of this command ask for that the service does not have, if it has not said so itself."""
    from pawl.domain.encoders import MADE_WITH, EncoderOrigin
    from pawl.versions.contradictions import ServedVersion, compare

    try:
        report = service.get("/v1/encoder")
    except CommandFailed:  # there is no version, or no database: told above
        return
    served = ServedVersion(report["version"], EncoderOrigin.of({MADE_WITH: report["made_with"]}), None)
    for contradiction in compare(settings, served):
        if str(contradiction) not in report["contradictions"] and (report["request"] or {}).get("state") != "pending":
            print_line(f"settings  here: {contradiction}")


def _print_learning(model: Json) -> None:
    """The queue, the learner, and what is wrong."""
    queue, learner = model["queue"], model["learner"]
    problem = model["transport_problem"] or (learner or {}).get("details", {}).get("redis_problem")
    if problem:
        print_line(f"redis     cannot be used: {problem}; the sweep brings corrections (`pawl doctor` says more)")
    if (model["age_seconds"] or 0) > _STALE_SECONDS:
        print_line(f"database  does not answer (predictions go on); what follows is {ago(model['as_of'])} old")
    if queue is None:
        print_line("queue     unknown: the database does not answer (predictions go on)")
    else:
        oldest = f", the oldest for {queue['oldest_age_seconds']:.0f} s" if queue["length"] else ""
        print_line(f"queue     {queue['length']} waiting to be learned{oldest}")
    if learner is None:
        print_line("learner   none has been seen; start it with `pawl up` or `pawl work`")
    else:
        alive = learner["state"] if learner["alive"] else "not running; start it with `pawl up` or `pawl work`"
        print_line(f"learner   {alive} (heartbeat {ago(learner['heartbeat_at'])} ago)")
        if "work" in learner["details"]:
            print_line(f"work      {_work(learner['details'])}")
        if learner["details"].get("problem"):
            print_line(f"problem   {learner['details']['problem']}")
    for part in model["parts"]:
        if not part["well"]:
            print_line(f"part      {_unwell(part)}")


def _work(details: Json) -> str:
    """What the learner does besides learning: a consolidation, or another encoder."""
    done = f" {details['done']}/{details['total']}" if details.get("total") else ""
    return f"{details['work']}: {details.get('phase')}{done}"


def _unwell(part: Json) -> str:
    again = "is started again and again" if part["next_start"] else "runs again"
    return f"{part['name']} {again}; ends in a row: {part['failures']}, the last with {part['last_end']}"
