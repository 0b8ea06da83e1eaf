"""`pawl encoder show` and `set`: which encoder serves, and another one instead of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from app.commands.console.terminal import CommandFailed, notes, print_json, print_line, progress_bar
from app.commands.home.learner import learn_all, live_learner, wait_until_served
from app.commands.home.stores import HomeStores, open_stores
from pawl.artefacts import FolderArtefactStore
from pawl.classifier.encoders.source import EncoderSource, find_encoder
from pawl.domain.encoders import NO_ENCODER, EncoderChoice, EncoderRequest, EncoderRequestState
from pawl.json_values import Json
from pawl.settings import Settings
from pawl.versions.contradictions import (
    Contradiction,
    ServedVersion,
    find_contradictions,
    refuse_contradictions,
    served_version,
    wanted_choice,
)
from pawl.versions.encoder_report import describe, describe_request

_EVENTS = 200
_AGAIN = "Nothing is lost; see `pawl doctor`, then run the same command again."
_NOTHING = "nothing has been learned here yet, so there is no encoder to speak of"
_FIRST = "A first version takes the one in PAWL_ENCODER: set it, then `pawl import FILE.csv` or `pawl up`."


async def check_settings(settings: Settings, stores: HomeStores) -> None:
    """Raises `SettingsContradict` where the settings contradict what the home was made with; tells what is planned."""
    artefacts = FolderArtefactStore(settings.artefacts_path)
    _note(await refuse_contradictions(settings, stores.ledger, artefacts, stores.samples))


async def ready_to_learn(settings: Settings) -> None:
    """Brings home and schema up to date and checks the settings. Raises as `check_settings`."""
    async with open_stores(settings, migrate=True) as stores:
        await check_settings(settings, stores)


def _note(contradictions: Sequence[Contradiction]) -> None:
    for contradiction in contradictions:
        notes.print(f"note: {contradiction}", style="yellow", markup=False, soft_wrap=True)


async def show(settings: Settings, *, as_json: bool) -> None:
    """What serves, what the settings ask for, and what became of the newest request."""
    async with open_stores(settings) as stores:
        artefacts = FolderArtefactStore(settings.artefacts_path)
        served = await served_version(stores.ledger, artefacts)
        if served is None:
            raise CommandFailed(_NOTHING, _FIRST)
        digest = (await stores.ledger.get(served.version)).encoder_digest
        contradictions = await find_contradictions(settings, stores.ledger, artefacts, stores.samples)
    report = await asyncio.to_thread(describe, served, digest, artefacts.path(served.version), contradictions)
    if as_json:
        print_json(_plain(report))
        return
    made: dict[str, Any] = report["made_with"] or {}
    print_line(f"version     {report['version']}")
    print_line(f"encoder     {made.get('encoder', 'unknown: made before this was written down')}")
    print_line(
        f"digest      {report['encoder_digest'][:16]}" + (f", source {made['source_digest'][:16]}" if made else "")
    )
    if report["pooling"] == "none":
        print_line("embedding   none: the heads answer by words alone")
    else:
        _tell_encoder(report, made)
    if served.request is not None:
        print_line(f"asked for   {_told(served.request)}")
    _note(contradictions)


def _tell_encoder(report: Json, made: Json) -> None:
    print_line(f"embedding   {report['dimension']} numbers: {report['layers']} layers, {report['pooling']} pooling")
    print_line(f"reads       {report['max_tokens']} tokens of a text" + _prefixed(report["prefix"]))
    print_line(f"weights     {report['precision']}")
    if made:
        print_line(f"features    {made['random_features']} random ones, seed {made['seed']}")


def _prefixed(prefix: str | None) -> str:
    return f", with {prefix!r} before it" if prefix else ""


def _told(request: EncoderRequest) -> str:
    version = f", version {request.version}" if request.version is not None else ""
    problem = f": {request.problem}" if request.problem else ""
    named = f"{request.choice.encoder}{_prefixed(request.choice.encoder_prefix)}"
    return f"{named} ({request.id}, {request.state.value}{version}{problem})"


async def set_encoder(
    settings: Settings,
    encoder: str,
    *,
    prefix: str | None,
    reason: str | None,
    accept: str | None,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Asks the learner for another encoder. With `wait`, returns when it serves or raises with why it does not."""
    async with open_stores(settings, migrate=True) as stores:
        served = await served_version(stores.ledger, FolderArtefactStore(settings.artefacts_path))
        if served is None:
            raise CommandFailed(_NOTHING, _FIRST)
        made = served.origin
        choice = wanted_choice(settings, None if made is None else made.choice, _absolute(encoder), prefix)
        # Looked for here too, so that a wrong name is told to the person who wrote it and not in the learner's log.
        source = await asyncio.to_thread(find_encoder, choice.encoder, choice.encoder_sha256)
        if made is not None and made.source_digest == source.digest() and _same(made.choice, choice):
            print_line(f"version {served.version} is made with this encoder and these settings already; nothing to do")
            return
        if dry_run:
            await _tell_plan(stores, served, choice, source)
            return
        request = await stores.ledger.request_encoder(choice, reason, accept)
        if wait:
            request = await _follow(settings, stores, request)
            await _tell_outcome(settings, stores, request, as_json=as_json)
        elif as_json:
            print_json(_plain(describe_request(request)))
        else:
            print_line(
                f"asked for {choice.encoder} ({request.id}); follow it with `pawl encoder show` or `pawl status`"
            )
            if await live_learner(stores) is None:
                print_line("no learner runs: `pawl up` or `pawl work` does it, or --wait here")


def _absolute(encoder: str) -> str:
    """Returns a folder's absolute path, because the learner may run in another folder. Other ids stay."""
    folder = Path(encoder).expanduser()
    return str(folder.resolve()) if encoder != NO_ENCODER and folder.is_dir() else encoder


def _same(made: EncoderChoice, asked: EncoderChoice) -> bool:
    # Without the name: the caller compares the sources by digest, and one encoder may be named by folder or by hub id.
    return replace(made, encoder="", encoder_sha256=None) == replace(asked, encoder="", encoder_sha256=None)


async def _tell_plan(stores: HomeStores, served: ServedVersion, choice: EncoderChoice, source: EncoderSource) -> None:
    counts = {task: sum((await stores.samples.label_counts(task)).values()) for task in await stores.samples.tasks()}
    print_line(
        f"version {served.version} serves {served.origin.choice.encoder if served.origin else 'one unknown by name'}"
    )
    print_line(f"asked for is {choice.encoder} ({source.description})")
    before = asdict(served.origin.choice) if served.origin else {}
    for name, value in asdict(choice).items():
        if before.get(name) != value:
            print_line(f"  {name}: {before.get(name)!r} -> {value!r}")
    for task, count in counts.items():
        print_line(f"task {task}: {count} samples would be embedded anew, and both encoders judged on them")
    print_line("nothing was changed")


class _Settled:
    """Waits for a request; tells of the learner's progress."""

    def __init__(self, request: EncoderRequest, bar: Progress) -> None:
        self.request = request
        self._bar = bar
        self._step = bar.add_task("waiting for the learner", total=1)

    async def left(self, stores: HomeStores) -> int:
        """Returns 1 while the request is not settled, else 0; shows the learner's progress."""
        self.request = await stores.ledger.encoder_request(self.request.id)
        status = await stores.ledger.learner_status()
        details = status.details if status is not None else {}
        if details.get("work") == "encoder":
            done, total = int(details.get("done") or 0), max(int(details.get("total") or 1), 1)
            self._bar.update(self._step, description=str(details.get("phase")), completed=done, total=total)
        return int(self.request.state is EncoderRequestState.PENDING)


async def _follow(settings: Settings, stores: HomeStores, request: EncoderRequest) -> EncoderRequest:
    """Waits until the request is settled. Where no learner runs, one is started for as long as it takes."""
    with progress_bar() as bar:
        settled = _Settled(request, bar)
        trouble = await learn_all(settings, stores, settled, lambda _: None)
    if trouble is not None:
        raise CommandFailed(f"it could not be done now: {await _problem(stores)}", _AGAIN)
    return settled.request


async def _problem(stores: HomeStores) -> str:
    newest = await stores.ledger.last_event_id()
    events = await stores.ledger.events(max(0, newest - _EVENTS), _EVENTS)
    problems = [str(event.payload.get("problem")) for event in events if event.type == "encoder_failed"]
    return problems[-1] if problems else "see the learner's log"


async def _tell_outcome(settings: Settings, stores: HomeStores, request: EncoderRequest, *, as_json: bool) -> None:
    """Raises `CommandFailed` where it does not serve."""
    served = request.state is EncoderRequestState.APPLIED and request.version is not None
    if served and request.version is not None:
        served = await wait_until_served(settings, request.version)
    if as_json:
        print_json(_plain(describe_request(request)))
    else:
        await _tell_report(stores, request)
    if request.state is EncoderRequestState.REFUSED:
        raise CommandFailed(
            f"the gate refused version {request.version}: {request.problem}. What served before goes on serving",
            f"To take it all the same: pawl encoder set {request.choice.encoder} --accept REASON --wait",
        )
    if request.state is EncoderRequestState.FAILED:
        raise CommandFailed(str(request.problem), "What served before goes on serving.")
    if not as_json:
        print_line(f"version {request.version} {'is served' if served else 'is live; start it with `pawl up`'}")
        for each in find_stale(settings, request.choice):
            notes.print(each, style="yellow", markup=False, soft_wrap=True)


def find_stale(settings: Settings, choice: EncoderChoice) -> list[str]:
    """Returns what has to be changed in the environment before the next start."""
    if "encoder" not in settings.model_fields_set or _absolute(settings.encoder) == choice.encoder:
        return []
    return [
        f"note: PAWL_ENCODER is {settings.encoder} here; unset it or set it to {choice.encoder} before the next start"
    ]


async def _tell_report(stores: HomeStores, request: EncoderRequest) -> None:
    report = request.report
    for task, judged in report.get("tasks", {}).items():
        before, after = 100 * judged["live"], 100 * judged["candidate"]
        print_line(
            f"task {task}: {before:.1f} % -> {after:.1f} % right on {judged['items']} texts, each answered without "
            f"itself (+{judged['gained']} -{judged['lost']}, p {judged['p_value']:.3g})"
        )
    if report.get("latency_ratio") is not None:
        print_line(f"a text takes {report['latency_ratio']:.2f} times as long as before")
    if report.get("samples") is not None:
        print_line(f"{report['samples']} samples have embeddings of {request.choice.encoder}")
    for task in await stores.samples.tasks():
        counts = await stores.samples.label_counts(task)
        print_line(f"task {task}: {sum(counts.values())} texts learned, {len(counts)} labels")


def _plain(value: Any) -> Any:
    """JSON values: times as ISO 8601."""
    return json.loads(json.dumps(value, default=str))
