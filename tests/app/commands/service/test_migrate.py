"""`pawl migrate`, and the learner beside a database that is away or newer."""

from __future__ import annotations

import json
import shutil
import socket as sockets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, text

from app.local.supervisor import guarded
from pawl.db.engine import connect, writing
from pawl.domain.samples import NewSample, SampleState
from tests.app.commands.processes import ROOT, environment, pawl
from tests.intents import labelled
from tests.polling import eventually
from tests.processes import LENIENT, PATIENCE, Installer, Stores, free_port, until_ready

FORWARDER = """
import socket, sys, threading

def copy(source, target):
    while chunk := source.recv(65536):
        target.sendall(chunk)
    target.shutdown(socket.SHUT_WR)

server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    here, _ = server.accept()
    there = socket.socket(socket.AF_UNIX)
    there.connect(sys.argv[2])
    for pair in ((here, there), (there, here)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""

_LATER = """
\"\"\"One table more.\"\"\"

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None


def upgrade():
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade():
    op.drop_table("later")
"""


def test_it_says_from_where_to_where_and_goes_there(tmp_path: Path) -> None:
    env = environment(tmp_path / "home", None)
    dry = pawl(env, "migrate", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would go from an empty database to" in dry.stdout
    assert "0001" in dry.stdout
    assert pawl(env, "migrate", "--check").returncode == 1
    done = pawl(env, "migrate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("went from an empty database to ")
    assert "nothing to do" in pawl(env, "migrate").stdout
    assert pawl(env, "migrate", "--check").returncode == 0


def test_going_back_wants_to_be_meant_and_a_newer_schema_is_named(tmp_path: Path) -> None:
    newer = partial(pawl, environment(tmp_path / "home", None), cwd=_with_a_later_schema(tmp_path / "newer"))
    older = partial(pawl, environment(tmp_path / "home", None))
    assert newer("migrate").returncode == 0
    unknown = older("migrate")
    assert unknown.returncode == 1
    assert "0002 is unknown" in unknown.stderr
    refused = newer("migrate", "--to", "0001")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    plan = json.loads(newer("migrate", "--to", "0001", "--dry-run", "--json").stdout)
    assert (plan["target"], plan["is_back"], plan["done"]) == ("0001", True, False)
    back = newer("migrate", "--to", "0001", "--yes")
    assert back.returncode == 0, back.stderr
    assert "0002" in back.stdout
    assert "nothing to do" in older("migrate").stdout
    assert newer("migrate").returncode == 0
    assert newer("migrate", "--to", "9999").returncode == 1


def _with_a_later_schema(folder: Path) -> Path:
    """A working directory with the `migrations` of a later Pawl, which Python finds before the installed ones."""
    shutil.copytree(ROOT / "migrations", folder / "migrations")
    revision = folder / "migrations" / "versions" / "0002_later.py"
    revision.write_text(_LATER, encoding="utf-8")
    return folder


@pytest.mark.timeout(300)
async def test_a_learner_beside_a_newer_schema_stands_by_and_a_service_answers(
    install: Installer, redis_url: str
) -> None:
    home = install.trained(redis_url=redis_url, **LENIENT)
    app, worker = home.start_app(), home.start_worker()
    async with home.client() as client, home.stores() as stores:
        await until_ready(client)
        await eventually(lambda: _leads(stores), PATIENCE, every=0.05)
        [old] = await _revisions(home.settings.sql_url, "from-the-future")
        await eventually(lambda: "standing_by" in worker.output() and "newer Pawl" in worker.output(), PATIENCE)
        assert worker.is_running
        sent = await stores.samples.accept([NewSample(*labelled(1, seed=9)[0])])
        started_anew = home.start_worker()
        await eventually(lambda: "newer Pawl" in started_anew.output(), PATIENCE, every=0.1)
        assert started_anew.is_running
        app.stop()
        home.start_app()
        async with home.client() as again:
            assert await until_ready(again) == 1, "the service of a former version serves"
        await _revisions(home.settings.sql_url, old)
        await eventually(lambda: _is_learned(stores, sent[0].id), PATIENCE, every=0.1)


@pytest.mark.timeout(300)
async def test_a_learner_that_starts_without_its_database_waits_inside(
    install: Installer, redis_url: str, postgres_url: str
) -> None:
    """At its URL nobody listens, and then somebody does: a forwarder to the real server."""
    real = make_url(postgres_url)
    socket = Path(str(real.query["host"])) / f".s.PGSQL.{real.port or 5432}"
    if not socket.exists():
        pytest.skip("the tests' PostgreSQL is not on a Unix socket")
    port = free_port()
    url = URL.create("postgresql", real.username, host="127.0.0.1", port=port, database=real.database)
    home = install.empty(redis_url=redis_url, database_url=url.render_as_string(hide_password=False), **LENIENT)
    worker = home.start("worker", "app.cli", "work")
    await eventually(lambda: "Waiting for it" in worker.output(), PATIENCE, every=0.1)
    bare = home.start_worker()
    await eventually(lambda: "standing_by" in bare.output(), PATIENCE, every=0.1)
    assert worker.is_running
    assert bare.is_running
    with forwarding(port, socket):
        await eventually(lambda: _answers(port), PATIENCE, every=0.05)
        async with home.stores() as stores:
            await stores.samples.accept([NewSample(text, label) for text, label in labelled(60)])
            await eventually(lambda: _nothing_queued(stores), PATIENCE, every=0.1)
    assert worker.is_running
    assert bare.is_running


@contextmanager
def forwarding(port: int, socket: Path) -> Iterator[None]:
    """A process that listens on the port and passes everything on to a Unix socket."""
    process = subprocess.Popen(guarded([sys.executable, "-c", FORWARDER, str(port), str(socket)]))
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with sockets.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _nothing_queued(stores: Stores) -> bool:
    return await stores.ledger.live() is not None and (await stores.samples.backlog()).length == 0


async def _leads(stores: Stores) -> bool:
    status = await stores.ledger.learner_status()
    return status is not None and "version" in status.details


async def _is_learned(stores: Stores, sample_id: str) -> bool:
    return (await stores.samples.get(sample_id)).state is SampleState.LEARNED


async def _revisions(url: str, new: str) -> list[str]:
    """Puts another revision in the database; the one before."""
    engine = connect(url)
    try:
        async with writing(engine) as connection:
            old = list(await connection.scalars(text("SELECT version_num FROM alembic_version")))
            await connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": new})
        return old
    finally:
        await engine.dispose()
