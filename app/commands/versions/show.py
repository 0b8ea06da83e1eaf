"""`pawl status` and `pawl versions`: what serves, how learning goes, the lineage."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import CommandFailed, ago, notes, out, print_json, print_line
from pawl.domain.encoders import MADE_WITH, EncoderOrigin
from pawl.settings import Settings
from pawl.versions.contradictions import ServedVersion, compare

_STALE_SECONDS = 5.0


def status(service: ServiceClient, *, as_json: bool) -> None:
    """The live version, its labels, the queue and the learner."""
    number = service.served()
    model = service.get("/v1/model") if number is not None else None
    if as_json:
        print_json({"url": service.url, "ready": number is not None, "model": model})
        return
    print_line(f"service   {service.url}")
    if model is None:
        print_line("version   not ready; see `pawl doctor`")
        return
    if model["version"] is None:
        print_line("version   none yet; run `pawl import FILE.csv` or send feedback")
    else:
        print_line(f"version   {model['version']} ({model['kind']}), serving for {ago(model['serving_since'])}")
    if model["version_problem"]:
        print_line(f"problem   {model['version_problem']} (`pawl doctor` says more)")
    for task, labels in model["tasks"].items():
        shown = ", ".join(labels[:8]) + (f", ... ({len(labels)} labels)" if len(labels) > 8 else "")
        print_line(f"task      {task}: {shown}")
    if model["transport"] == "sql":
        print_line("transport no Redis: SQL alone carries corrections (`pawl doctor` says more)")
    for each in model["contradictions"]:
        print_line(f"settings  {each}")
    _learning(model)


def own_contradictions(settings: Settings, service: ServiceClient) -> None:
    """What the settings of this command ask for that the service does not have, if it has not said so itself."""
    try:
        report = service.get("/v1/encoder")
    except CommandFailed:  # there is no version, or no database: told above
        return
    found = ServedVersion(report["version"], EncoderOrigin.of({MADE_WITH: report["made_with"]}), None)
    for each in compare(settings, found):
        if str(each) not in report["contradictions"] and (report["request"] or {}).get("state") != "pending":
            print_line(f"settings  here: {each}")


def _learning(model: dict[str, Any]) -> None:
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


def _work(details: dict[str, Any]) -> str:
    """What the learner does besides learning: a consolidation, or another encoder."""
    done = f" {details['done']}/{details['total']}" if details.get("total") else ""
    return f"{details['work']}: {details.get('phase')}{done}"


def _unwell(part: dict[str, Any]) -> str:
    again = "is started again and again" if part["next_start"] else "runs again"
    return f"{part['name']} {again}; ends in a row: {part['failures']}, the last with {part['last_end']}"


def versions(service: ServiceClient, limit: int, *, as_json: bool) -> None:
    """The newest versions, one line each."""
    page = service.get("/v1/versions", limit=limit)
    if as_json:
        print_json(page)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("version", "state", "kind", "parent", "new", "replayed", "when", "by", "reason"):
        table.add_column(
            heading,
            no_wrap=heading != "reason",
            justify="right" if heading in {"version", "parent", "new", "replayed"} else "left",
        )
    for v in page["items"]:
        style = {"live": "bold green", "refused": "red"}.get(v["state"], "")
        when = f"{ago(v['promoted_at'] or v['created_at'])} ago"
        cells = (v["number"], v["state"], v["kind"], v["parent"], v["samples_new"], v["samples_replayed"], when)
        gone = " (artefacts gone)" if not v["artefacts_kept"] else ""
        why = (v["reason"] or v["trigger"]) + gone
        table.add_row(*("-" if c is None else str(c) for c in cells), v["promoted_by"], why, style=style)
    out.print(table, markup=False)
    if page.get("next"):
        notes.print(f"older ones: pawl versions --limit {limit * 2}")


def version(service: ServiceClient, number: int, *, as_json: bool) -> None:
    """One version: lineage, the gate's verdict with its checks, and recall per class."""
    v = service.get(f"/v1/versions/{number}")
    if as_json:
        print_json(v)
        return
    print_line(f"version {v['number']}: {v['state']}, {v['kind']}, parent {v['parent'] or '-'}, trigger {v['trigger']}")
    print_line(f"  by {v['promoted_by']}, {ago(v['created_at'])} ago" + (f": {v['reason']}" if v["reason"] else ""))
    print_line(f"  samples: {v['samples_new']} new, {v['samples_replayed']} replayed, watermark {v['watermark']}")
    print_line(f"  encoder {v['encoder_digest'][:16]}, manifest {v['manifest_digest'][:16]}, {v['size_bytes']:,} bytes")
    for task, read in v["metrics"].get("reading", {}).items():
        print_line(
            f"  texts of {task}: {read['texts']} learned, {_rate(read['unknown_share'])} of their tokens unknown to "
            f"the encoder, {read['truncated']} longer than it reads"
        )
    for task, head in v["heads"].items():
        print_line(f"  head {task}: {len(head['labels'])} labels, temperature {head['temperature']:.3f}")
    _gate(v["gate"])


def _gate(report: dict[str, Any]) -> None:
    """The verdict, the paired tests, and a table per task with the recall of each class before and after."""
    if not report:
        print_line("gate: no report")
        return
    verdict = "accepted" if report["accepted"] else "refused"
    forced = f", forced: {report['forced']}" if report.get("forced") else ""
    print_line(f"gate: {verdict}{forced}")
    for reason in report["reasons"]:
        print_line(f"  - {reason}")
    for task, found in report["tasks"].items():
        print_line(f"task {task}")
        for name in ("overall", "known", "heldout", "golden", "forgetting"):
            test = found[name]
            if test["items"]:
                print_line(
                    f"  {name:<10} {_rate(test['live'])} -> {_rate(test['candidate'])} on {test['items']} "
                    f"(+{test['gained']} -{test['lost']}, p {test['p_value']:.3g})"
                )
        print_line(f"  {'ECE':<10} {_rate(found['ece_live'])} -> {_rate(found['ece_candidate'])}")
        if found["corrections"]:
            print_line(f"  {'new ones':<10} {_rate(found['corrections_right'])} of {found['corrections']} now right")
        for overlap in found["overlaps"]:
            print_line(f"  {'overlap':<10} {overlap['sentence']}")
        if found["pinned_broken"]:
            print_line(f"  pinned samples now wrong: {', '.join(found['pinned_broken'])}")
        out.print(_classes(found["classes"]), markup=False)


def _classes(classes: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("  label", no_wrap=True)
    for heading in ("judged on", "recall before", "recall now", "gained", "lost", "p", "new samples"):
        table.add_column(heading, justify="right")
    for c in classes:
        worse = "red" if c["lost"] > c["gained"] else ""
        table.add_row(
            f"  {c['label']}",
            str(c["items"]),
            _rate(c["live"]),
            _rate(c["candidate"]),
            str(c["gained"]),
            str(c["lost"]),
            f"{c['p_value']:.3g}",
            str(c["new_samples"]),
            style=worse,
        )
    return table


def _rate(value: float | None) -> str:
    """A share as a percentage; numbers that are not finite come over JSON as null."""
    return "-" if value is None else f"{100 * value:.1f} %"
