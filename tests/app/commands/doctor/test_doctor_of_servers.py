"""`pawl doctor` tests what the product does, not a ping, and repeats the server's own reason."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from pydantic import SecretStr

from app.commands.doctor.findings import CheckResult, Finding
from app.commands.doctor.servers import check_database, check_redis
from app.commands.home.stores import open_stores
from pawl.settings import Settings
from tests.app.commands.processes import ROOT, environment, pawl
from tests.polling import eventually
from tests.processes import PATIENCE, Installer, free_port, until_ready, until_settled
from tests.servers import PostgresServer, RedisServer

SECRET = "correct-horse"
RULE = re.search(r"ACL SETUSER pawl on >password (.*)", (ROOT / "docs" / "servers.md").read_text())


@pytest.fixture(scope="module")
def server(short_folder: Path) -> Iterator[RedisServer]:
    """A Redis whose users a test may change, over a socket, TCP and TLS."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    folder = short_folder / "doctor-redis"
    folder.mkdir()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *subject, *made], check=True, capture_output=True)
    files = {f"tls-{name}-file": str(folder / file) for name, file in (("cert", "cert.pem"), ("key", "key.pem"))}
    ports = {"port": str(free_port()), "tls-port": str(free_port()), "bind": "127.0.0.1", "tls-auth-clients": "no"}
    server = RedisServer(folder, {**ports, **files, "tls-ca-cert-file": str(folder / "cert.pem")})
    server.start()
    yield server
    server.kill()


def make_user(server: RedisServer, name: str, rules: str) -> str:
    """The URL of a user with these rules."""
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{SECRET}", *rules.split())
    return f"redis://{name}:{SECRET}@127.0.0.1:{server.options['port']}/0"


def found(url: str) -> Finding:
    finding = asyncio.run(check_redis(Settings(redis_url=SecretStr(url), server_seconds=10.0)))
    assert SECRET not in finding.detail + finding.remedy
    return finding


def test_what_works_is_ok_and_leaves_nothing(server: RedisServer) -> None:
    finding = found(server.url)
    assert (finding.outcome, finding.remedy) == (CheckResult.OK, "")
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        assert client.keys("pawl:doctor:*") == []
        assert client.xlen("pawl:feedback") == 0


def test_the_rights_that_the_page_names_are_enough(server: RedisServer) -> None:
    assert RULE is not None
    finding = found(make_user(server, "documented", RULE.group(1)))
    assert finding.outcome is CheckResult.OK, finding
    assert "INFO" in finding.detail, "it may not ask what the server is, and works all the same"


def test_rights_on_nothing_but_pawls_own_keys_are_enough(server: RedisServer) -> None:
    assert RULE is not None
    own = RULE.group(1).replace("~pawl:*", "~pawl:feedback ~pawl:pressure").replace("&pawl:*", "&pawl:versions")
    assert found(make_user(server, "exact", own)).outcome is CheckResult.OK


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("~other:* &* +@all", "permissions to access"),
        ("~pawl:* &other +@all", "channels used as arguments"),
        ("~* &* +@all -xadd", "xadd"),
        ("~* &* +@all -xreadgroup", "xreadgroup"),
        ("~* &* +@all -xack", "xack"),
        ("~* &* +@all -publish", "publish"),
        ("~* &* +@all -subscribe", "subscribe"),
    ],
)
def test_a_user_without_a_right_is_told_which(server: RedisServer, rules: str, reason: str) -> None:
    finding = found(make_user(server, "limited", rules))
    assert finding.outcome is CheckResult.FAIL
    assert "lacks a right" in finding.detail
    assert reason in finding.detail.lower()


def test_a_wrong_password_is_refused_not_silent(server: RedisServer) -> None:
    url = make_user(server, "known", "~* &* +@all")
    finding = found(url.replace(SECRET, "wrong-battery"))
    assert finding.outcome is CheckResult.FAIL
    assert "refuses the password" in finding.detail
    assert "wrong-battery" not in finding.detail
    assert not finding.remedy.startswith("Start it")


def test_a_certificate_that_is_not_trusted(server: RedisServer) -> None:
    url = f"rediss://localhost:{server.options['tls-port']}/0"
    finding = found(url)
    assert finding.outcome is CheckResult.FAIL
    assert "certificate is not trusted" in finding.detail
    assert "self-signed certificate" in finding.detail.replace("self signed", "self-signed")
    assert found(f"{url}?ssl_ca_certs={server.folder}/cert.pem").outcome is CheckResult.OK


def test_nothing_that_listens_and_what_is_no_url(server: RedisServer) -> None:
    nobody = found(f"redis://127.0.0.1:{free_port()}/0")
    assert (nobody.outcome, "nothing listens" in nobody.detail) == (CheckResult.FAIL, True)
    assert "not valid" in found("http://127.0.0.1/").detail


def test_doctor_and_up_say_it(server: RedisServer, short_folder: Path, tiny_encoder: Path) -> None:
    url = make_user(server, "known", "~* &* +@all").replace(SECRET, "wrong-battery")
    env = environment(short_folder / "doctor-home", tiny_encoder, PAWL_REDIS_URL=url)
    done = pawl(env, "doctor")
    assert done.returncode == 1
    assert "refuses the password" in " ".join(done.stdout.split())
    assert "wrong-battery" not in done.stdout


def database(url: str) -> Finding:
    async def check() -> Finding:
        settings = Settings(database_url=SecretStr(url), server_seconds=10.0)
        async with open_stores(settings) as stores:
            return await check_database(settings, stores, "the database")

    return asyncio.run(check())


def test_a_database_is_written_to(postgres_server: PostgresServer, postgres_url: str) -> None:
    async def migrate() -> None:
        async with open_stores(Settings(database_url=SecretStr(postgres_url)), migrate=True):
            pass

    missing = database(postgres_url)
    assert (missing.outcome, "no Pawl tables yet" in missing.detail) == (CheckResult.FAIL, True)
    asyncio.run(migrate())
    assert database(postgres_url).outcome is CheckResult.OK
    name = postgres_url.partition("@/")[2].partition("?")[0]
    for statement in ("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN"):
        postgres_server.execute(statement)
    reader = postgres_url.replace("postgres@", "reader@")
    try:
        blind = database(reader)
        assert "lacks a right" in blind.detail
        assert "permission denied" in blind.detail
        postgres_server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", name)
        finding = database(reader)
        assert finding.outcome is CheckResult.FAIL
        assert "INSERT on samples" in finding.detail
    finally:
        postgres_server.execute("DROP OWNED BY reader", name)
        postgres_server.execute("DROP ROLE reader")
    replica = database(f"{postgres_url}&options=-c%20default_transaction_read_only%3Don")
    assert (replica.outcome, "takes no writes" in replica.detail) == (CheckResult.FAIL, True)


def test_a_sqlite_file_that_takes_no_writes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, server_seconds=0.3)

    async def check(**options: str) -> Finding:
        async with open_stores(settings, migrate="migrate" in options) as stores:
            return await check_database(settings, stores, "the file")

    assert asyncio.run(check(migrate="yes")).outcome is CheckResult.OK
    with sqlite3.connect(tmp_path / "pawl.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        locked = asyncio.run(check())
        assert (locked.outcome, "locked by another process" in locked.detail) == (CheckResult.FAIL, True)
        other.execute("ROLLBACK")
    other.close()


async def test_app_learner_and_status_say_why_redis_does_not_carry(install: Installer, server: RedisServer) -> None:
    """Without the right to announce, or to consume; corrections are learned all the same."""
    for rules, part in (("~* &* +@all -xadd", "app"), ("~* &* +@all -xreadgroup", "worker")):
        pawl = install.trained(redis_url=make_user(server, f"no-{part}", rules))
        processes = {"app": pawl.start_app(), "worker": pawl.start_worker()}
        async with pawl.client() as client:
            await until_ready(client)
            sent = await client.post("/v1/feedback", json={"text": f"without {part}", "label": "card_arrival"})
            assert (await until_settled(client, sent.json()["items"][0]["id"]))["state"] == "learned"

            async def is_told(client: httpx.AsyncClient = client) -> bool:
                model = (await client.get("/v1/model")).json()
                found = [model["transport_problem"], model["learner"]["details"].get("redis_problem")]
                return "its user lacks a right that Pawl needs" in found

            await eventually(is_told, PATIENCE, every=0.1)
        output = processes[part].output()
        assert f"'{'xadd' if part == 'app' else 'xreadgroup'}' command" in output.lower()
        assert SECRET not in processes["app"].output() + processes["worker"].output()
        for process in processes.values():
            process.kill()
