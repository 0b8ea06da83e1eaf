"""`pawl doctor`: checks every part, and says what to do about what does not work."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import httpx
from rich.table import Table

from app.commands.console.client import RUN_FILE, service_url
from app.commands.console.terminal import ago, out, print_json
from app.commands.data.reading import look_at_store
from app.commands.doctor.backend import check_backend
from app.commands.doctor.findings import CheckResult, Finding, fail, ok, warn
from app.commands.doctor.servers import check_database, check_redis
from app.commands.home.stores import HomeStores, open_stores
from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.encoders.source import find_encoder
from pawl.domain.encoder_presets import preset_of
from pawl.domain.errors import PawlError
from pawl.domain.learner import EncoderState
from pawl.installed import install_command, pawl_version
from pawl.processes.parts import read_parts
from pawl.settings import Settings
from pawl.versions.contradictions import find_contradictions

_LEAST_BYTES = 200 * 2**20
_LOW_BYTES = 2 * 2**30


async def examine(settings: Settings, url: str | None, *, as_json: bool) -> bool:
    """Prints a finding for each part; false when one of them fails."""
    findings = [_python(), _home(settings), _encoder(settings)]
    findings += await _database(settings)
    findings += [await check_redis(settings), await _service(settings, url), *_parts(settings)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return all(finding.outcome is not CheckResult.FAIL for finding in findings)


def _print(findings: list[Finding]) -> None:
    styles = {CheckResult.OK: "green", CheckResult.WARN: "yellow", CheckResult.FAIL: "bold red"}
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "", "finding"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        style = styles[finding.outcome]
        detail = finding.detail.replace("[", r"\[")  # else rich takes a bracket for markup
        table.add_row(finding.part, f"[{style}]{finding.outcome}[/]", detail)
        if finding.remedy:
            table.add_row("", "", f"-> {finding.remedy}".replace("[", r"\["))
    out.print(table)


def _python() -> Finding:
    detail = f"Python {sys.version.split()[0]}, pawl {pawl_version()}"
    missing = [name for name in ("torch", "transformers", "onnx") if find_spec(name) is None]
    if missing:
        return warn(
            "python",
            f"{detail}; {', '.join(missing)} not installed, so nothing can be learned here",
            f"{install_command('worker')}   (not needed where only `pawl serve` runs)",
        )
    return ok("python", detail)


def _home(settings: Settings) -> Finding:
    home = settings.home_path
    if not home.exists():
        return warn("home", f"{home} does not exist yet", "`pawl up` or `pawl import` makes it.")
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"pawl")
        free = shutil.disk_usage(home).free
    except OSError as error:
        return fail("home", f"cannot write to {home}: {error.strerror}", "Set PAWL_HOME or --home.")
    detail = f"{home} is writable, {free / 2**30:.1f} GiB free"
    if free < _LEAST_BYTES:
        return fail("home", detail, "Free some space; lower PAWL_KEEP_VERSIONS keeps fewer versions.")
    if free < _LOW_BYTES:
        return warn("home", detail, "Make room soon; a full disk stops learning (not predictions).")
    return ok("home", detail)


def _encoder(settings: Settings) -> Finding:
    """Checks PAWL_ENCODER, which only a learner needs: the app reads the encoder inside the version."""
    try:
        source = find_encoder(settings.encoder, settings.encoder_sha256)
    except PawlError as error:
        # Without torch only `pawl serve` can run here, which does not need it.
        outcome = CheckResult.FAIL if find_spec("torch") is not None else CheckResult.WARN
        return Finding("encoder", outcome, str(error), "A learner needs it for a first version; see PAWL_ENCODER.")
    if source.is_none:
        return ok("encoder", source.description)
    known = settings.encoder_sha256 is not None or preset_of(settings.encoder) is not None
    checked = "digest verified" if known else "no digest set"
    return ok("encoder", f"{settings.encoder} in {source.description}, {checked}")


async def _database(settings: Settings) -> list[Finding]:
    """Database, and what only it can tell: the live version's artefacts, the queue and the learner."""
    file = settings.home_path / "pawl.db"
    if settings.database_url is None and not file.exists():
        return [warn("database", f"{file} does not exist yet", "`pawl up` or `pawl import` makes it.")]
    where = "PostgreSQL (PAWL_DATABASE_URL)" if settings.database_url is not None else str(file)
    try:
        async with open_stores(settings) as stores:
            findings = [await check_database(settings, stores, where)]
            # All checks below ask the database: each would only repeat what is wrong with it.
            if findings[0].outcome is CheckResult.FAIL:
                return findings
            checks = {
                "artefacts": _artefacts,
                "backend": check_backend,
                "settings": _settings,
                "texts": _texts,
                "learner": _learner,
                "dead letters": _dead_letters,
            }
            for part, check in checks.items():
                findings.append(await _guarded(part, check(settings, stores)))
            return findings
    except PawlError as error:
        return [fail("database", f"{where}: {error}", "Feedback is refused until it answers.")]


# A check that cannot be made is a finding itself, and those after it are still made.
async def _guarded(part: str, check: Coroutine[Any, Any, Finding]) -> Finding:
    try:
        return await check
    except PawlError as error:
        return fail(part, str(error))


async def _artefacts(settings: Settings, stores: HomeStores) -> Finding:
    live = await stores.ledger.live()
    store = FolderArtefactStore(settings.artefacts_path, [settings.encoders_path])
    try:
        await asyncio.to_thread(store.probe)
    except (OSError, PawlError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        remedy = "Make room, or give the folder back to the user that Pawl runs as. What waits is learned then."
        return fail("artefacts", f"no version can be written to {settings.artefacts_path}: {reason}", remedy)
    if live is None:
        detail = "versions can be written and read back; there is none yet"
        return warn("artefacts", detail, "Run `pawl import FILE.csv`.")
    try:
        folder = await asyncio.to_thread(store.open, live.number)
    except PawlError as error:
        return fail(
            "artefacts",
            str(error),
            "The loaded version goes on serving. Roll back to one that is whole: `pawl promote N --reason ...`, "
            "or restore the folder from a backup.",
        )
    files = len(folder.manifest.files)
    return ok(
        "artefacts",
        f"versions can be written and read back; {live.number} is whole: {files} files match their digests",
    )


async def _settings(settings: Settings, stores: HomeStores) -> Finding:
    """Checks whether the settings contradict what the home was made with."""
    contradictions = await find_contradictions(
        settings, stores.ledger, FolderArtefactStore(settings.artefacts_path), stores.samples
    )
    if not contradictions:
        return ok("settings", "none contradicts what this home was made with")
    outcome = CheckResult.WARN if all(contradiction.is_plan for contradiction in contradictions) else CheckResult.FAIL
    detail = " ".join(contradiction.sentence for contradiction in contradictions)
    return Finding("settings", outcome, detail, " ".join(contradiction.remedy for contradiction in contradictions))


async def _texts(settings: Settings, stores: HomeStores) -> Finding:
    """Checks whether the texts that were learned can be read, and by which encoder."""
    seen = await look_at_store(settings, stores)
    if seen is None or not seen.scripts.texts:
        return ok("texts", "none but the demo's was learned yet")
    shown = ", ".join(f"{share:.0%} {script}" for script, share in seen.scripts.shares.items())
    detail = f"{seen.scripts.texts} learned texts: {shown}"
    if seen.totals is not None:
        detail = f"{detail}; {seen.totals.unknown_share:.1%} of their tokens are unknown to the encoder"
    if not seen.sentences:
        return ok("texts", f"{detail}; none of them is longer than is read")
    advised = seen.recommendation is not None
    remedy = "Take an encoder that reads more: `pawl encoder set`." if len(seen.sentences) > advised else ""
    return warn("texts", f"{detail}. " + ". ".join(seen.sentences), remedy)


async def _learner(_settings: Settings, stores: HomeStores) -> Finding:
    status, backlog = await stores.ledger.learner_status(), await stores.samples.backlog()
    queue = f"{backlog.length} queued" + (f", the oldest for {ago(backlog.oldest_at)}" if backlog.length else "")
    if status is None:
        return warn("learner", f"none has run yet, {queue}", "Start one: `pawl up` or `pawl work`.")
    seen = f"heartbeat {ago(status.heartbeat_at)} ago ({status.holder}), {queue}"
    if status.problem:
        refused = status.encoder is EncoderState.REFUSED
        remedy = (
            "Choose another encoder, then start it again." if refused else "It goes on by itself once that is mended."
        )
        return fail("learner", f"{status.problem} ({seen})", remedy)
    if status.expires_at > datetime.now(UTC):
        return ok("learner", f"{status.state}, {seen}")
    outcome = CheckResult.FAIL if backlog.length else CheckResult.WARN
    return Finding("learner", outcome, f"not running, {seen}", "Start it: `pawl up` or `pawl work`.")


async def _dead_letters(_settings: Settings, stores: HomeStores) -> Finding:
    count = await stores.samples.dead_count()
    if not count:
        return ok("dead letters", "none")
    detail = f"{count} labels could not be learned though it went on without them"
    return warn("dead letters", detail, "See `pawl dead-letters`; then `redrive` or `discard` them.")


def _parts(settings: Settings) -> list[Finding]:
    """Returns a finding for each process that a `pawl up` on this home keeps alive."""
    logs = settings.home_path / "logs"
    return [
        ok("supervisor", f"{part.name}: {part.told()}")
        if part.is_well
        else fail("supervisor", f"{part.name}: {part.told()}", f"See {logs / part.name}.log.")
        for part in read_parts(settings.home_path)
    ]


async def _service(settings: Settings, url: str | None) -> Finding:
    address = service_url(settings, url)
    try:
        async with httpx.AsyncClient(timeout=5.0) as client:
            answer = await client.get(f"{address}/readyz")
            body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        expected = url is not None or (settings.home_path / RUN_FILE).exists()
        detail = f"nothing answers at {address}" if isinstance(error, httpx.ConnectError) else f"{address}: {error}"
        return Finding("service", CheckResult.FAIL if expected else CheckResult.WARN, detail, "Start it: `pawl up`.")
    if answer.is_success:
        detail = f"version {body['version']}" if body.get("version") else "no version yet: nothing has been learned"
        return ok("service", f"{address} is ready, {detail}")
    detail = body.get("detail", "") if isinstance(body, dict) else ""
    return warn("service", f"{address} answers but is not ready: {detail}")
