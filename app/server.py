"""The app behind a socket: uvicorn, its settings, and its orderly end."""

from __future__ import annotations

import gc
import math
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from app.http.methods import allowed_methods
from app.http.protocol import protocol_for
from app.main import create_app
from app.serving.health.group_metrics import Member
from app.serving.service import Service
from pawl.processes.logs import configure_logs
from pawl.processes.threads import calm_blas
from pawl.settings import Settings

_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """Tells the app about a stop before it waits for requests in flight, as event streams do not end by themselves, and
    spares it long collections of garbage.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._pawl = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts; see `uvicorn.Server.startup`."""
        await super().startup(sockets)
        # Modules, routes and models stay until the end. A full collection looked through all of them, and no request
        # was answered for 110 ms; from now on it looks at what came later.
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains; see `uvicorn.Server.shutdown`."""
        service: Service | None = getattr(self._pawl.state, "service", None)
        if service is not None:
            service.drain()
        await super().shutdown(sockets)


def make_server(settings: Settings, app: FastAPI) -> uvicorn.Server:
    """A uvicorn server for the app: uvloop and httptools, no access log, drains within `drain_seconds`."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol_for(partial(allowed_methods, app.routes)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),  # uvicorn takes whole seconds
    )
    return _Server(config, app)


def serve(settings: Settings, handle: int | None = None, member: int = 1, metrics: Path | None = None) -> None:
    """Runs the service until SIGTERM or SIGINT on `host` and `port`.

    One of several processes listens on the socket it inherited as `handle`, and shares the folder `metrics`.
    """
    configure_logs(settings.log_level)
    calm_blas()  # numpy is imported by now: only libraries that are loaded can be told
    app = create_app(settings, member=Member(member, metrics) if metrics is not None else None)
    server = make_server(settings, app)
    sockets = [socket.socket(fileno=handle)] if handle is not None else None
    # uvicorn stops in order and then raises the signal again; a traceback would say nothing more
    with suppress(KeyboardInterrupt):
        server.run(sockets=sockets)
