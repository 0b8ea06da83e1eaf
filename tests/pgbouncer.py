"""Debian's PgBouncer for the tests."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.servers import PostgresServer, Server


class PgBouncerServer(Server):
    """Debian's PgBouncer before a PostgreSQL, on a unix socket in its folder. In transaction mode, with two connections
    for everybody: what one transaction leaves on a connection, another client meets at once.
    """

    PROGRAM = "/usr/sbin/pgbouncer"
    _PORT = 6432

    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        super().__init__(folder)
        self.postgres = postgres

    def start(self, user: str | None = None) -> None:
        """Writes its configuration, then starts it; it refuses to run as root."""
        settings = {
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "auth_type": "any",
            "listen_addr": "",
            "listen_port": self._PORT,
            "unix_socket_dir": self.folder,
            "max_client_conn": 200,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        to = f"* = host={self.postgres.folder} user=postgres"
        (self.folder / "pgbouncer.ini").write_text(f"[databases]\n{to}\n[pgbouncer]\n{lines}")
        if self.postgres.user is not None:
            os.chown(self.folder, pwd.getpwnam(self.postgres.user).pw_uid, -1)
        super().start(user or self.postgres.user)

    def command(self) -> list[str]:
        return [self.PROGRAM, str(self.folder / "pgbouncer.ini")]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres").replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"{self.postgres.url(database).partition('?')[0]}?host={self.folder}&port={self._PORT}"


@pytest.fixture
def pgbouncer(short_folder: Path, postgres_server: PostgresServer) -> Iterator[PgBouncerServer]:
    """A PgBouncer before the session's PostgreSQL."""
    if not Path(PgBouncerServer.PROGRAM).exists():
        pytest.skip(f"{PgBouncerServer.PROGRAM} is not here (apt-get install pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="bouncer-", dir=short_folder))
    folder.chmod(0o755)
    server = PgBouncerServer(folder, postgres_server)
    server.start()
    yield server
    server.kill()
