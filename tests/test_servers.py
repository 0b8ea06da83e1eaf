"""The real servers of the tests: are what they say, keep their data over a stop, lose none over a kill."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import redis

from tests.servers import PostgresServer, RedisServer


def test_postgres_is_a_real_server_of_the_wheel(postgres_url: str) -> None:
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT version(), current_database()").fetchone()
    assert row is not None
    assert row[0].startswith("PostgreSQL 16")
    assert row[1] in postgres_url


def test_redis_keeps_its_data_over_a_stop_and_a_start(short_folder: Path) -> None:
    folder = short_folder / "own-redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.info("server")["process_id"] == server.pid
            client.set("kept", "yes")
        server.stop()
        with redis.Redis.from_url(server.url) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"
    finally:
        server.kill()


def test_postgres_starts_again_on_its_data_after_a_kill(short_folder: Path) -> None:
    folder = short_folder / "own-postgres"
    folder.mkdir()
    server = PostgresServer(folder)
    server.start()
    try:
        name = server.create_database()
        server.kill()
        server.start()
        with psycopg.connect(server.url(name).replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()
