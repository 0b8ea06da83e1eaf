"""`pawl versions`: the lineage, and one version with its gate report."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from app.commands.console.options import AsJson, Home, Url, service_at
from app.commands.console.terminal import ago, notes, out, print_json, print_line, words_in_a_sentence
from pawl.json_values import Json


def versions(
    number: Annotated[int | None, typer.Argument(help="Show this one with its gate report.", metavar="N")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many to list.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """The lineage, newest first; with N one version: lineage, gate report, recall per class."""
    with service_at(url, home) as service:
        if number is not None:
            version = service.get(f"/v1/versions/{number}")
            print_json(version) if as_json else _print_version(version)
            return
        page = service.get("/v1/versions", limit=limit)
    print_json(page) if as_json else _print_page(page, limit)


def _print_page(page: Json, limit: int) -> None:
    """The newest versions, one line each."""
    table = Table(box=None, pad_edge=False)
    for heading in ("version", "state", "kind", "parent", "new", "replayed", "when", "by", "reason"):
        table.add_column(
            heading,
            no_wrap=heading != "reason",
            justify="right" if heading in {"version", "parent", "new", "replayed"} else "left",
        )
    for row in page["items"]:
        style = {"live": "bold green", "refused": "red"}.get(row["state"], "")
        when = f"{ago(row['promoted_at'] or row['created_at'])} ago"
        fields = ("number", "state", "kind", "parent", "samples_new", "samples_replayed")
        cells = [*(row[field] for field in fields), when]
        removed = " (artefacts gone)" if not row["artefacts_kept"] else ""
        why = (row["reason"] or row["trigger"]) + removed
        table.add_row(*("-" if c is None else str(c) for c in cells), row["promoted_by"], why, style=style)
    out.print(table, markup=False)
    if page.get("next"):
        notes.print(f"older ones: pawl versions --limit {limit * 2}")


def _print_version(version: Json) -> None:
    """Lineage, the gate's verdict with its checks, and recall per class."""
    created = f"{ago(version['created_at'])} ago"
    why = f": {version['reason']}" if version["reason"] else ""
    of_parent = f"parent {version['parent'] or '-'}, trigger {version['trigger']}"
    samples = f"{version['samples_new']} new, {version['samples_replayed']} replayed"
    digests = f"encoder {version['encoder_digest'][:16]}, manifest {version['manifest_digest'][:16]}"
    print_line(f"version {version['number']}: {version['state']}, {version['kind']}, {of_parent}")
    print_line(f"  by {version['promoted_by']}, {created}{why}")
    print_line(f"  samples: {samples}, watermark {version['watermark']}")
    print_line(f"  {digests}, {version['size_bytes']:,} bytes")
    for task, read in version["metrics"].get("reading", {}).items():
        print_line(
            f"  texts of {task}: {read['texts']} learned, {_rate(read['unknown_share'])} of their tokens unknown to "
            f"the encoder, {read['truncated']} longer than it reads"
        )
    for task, head in version["heads"].items():
        print_line(f"  head {task}: {len(head['labels'])} labels, temperature {head['temperature']:.3f}")
        if head["lexical"]:
            print_line(f"    {words_in_a_sentence(head['lexical'])}")
    _gate(version["gate"])


def _gate(report: Json) -> None:
    """The verdict, the paired tests, and a table per task with the recall of each class before and after."""
    if not report:
        print_line("gate: no report")
        return
    verdict = "accepted" if report["accepted"] else "refused"
    forced = f", forced: {report['forced']}" if report.get("forced") else ""
    print_line(f"gate: {verdict}{forced}")
    for reason in report["reasons"]:
        print_line(f"  - {reason}")
    for task, judged in report["tasks"].items():
        print_line(f"task {task}")
        for name in ("overall", "known", "heldout", "golden", "forgetting"):
            test = judged[name]
            if test["items"]:
                print_line(
                    f"  {name:<10} {_rate(test['live'])} -> {_rate(test['candidate'])} on {test['items']} "
                    f"(+{test['gained']} -{test['lost']}, p {test['p_value']:.3g})"
                )
        print_line(f"  {'ECE':<10} {_rate(judged['ece_live'])} -> {_rate(judged['ece_candidate'])}")
        if judged["corrections"]:
            print_line(f"  {'new ones':<10} {_rate(judged['corrections_right'])} of {judged['corrections']} now right")
        for overlap in judged["overlaps"]:
            print_line(f"  {'overlap':<10} {overlap['sentence']}")
        if judged["pinned_broken"]:
            print_line(f"  pinned samples now wrong: {', '.join(judged['pinned_broken'])}")
        out.print(_classes(judged["classes"]), markup=False)


def _classes(classes: list[Json]) -> Table:
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
