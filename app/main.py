"""The composition root of the HTTP service. Nothing connects or loads before the lifespan starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app import openapi
from app.http.edge import Edge
from app.metrics import AppMetrics
from app.routes import dead_letters, docs, encoder, events, feedback, health, model, predict, quarantine
from app.routes import labels as label_routes
from app.routes import tasks as task_routes
from app.routes import versions as version_routes
from app.serving.health.group_metrics import Member
from app.serving.ports import Ports
from app.serving.predictions.engine import ServedClassifier
from app.serving.service import Service
from pawl.artefacts.folders import FolderArtefactStore
from pawl.backoff import Backoff
from pawl.classifier.classifier import load_classifier
from pawl.classifier.encoders.choice import Backends
from pawl.db.engine import connect
from pawl.db.labels import SqlLabelStore
from pawl.db.migrate import upgrade
from pawl.db.predictions import SqlPredictionLog
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import StoreUnavailable
from pawl.installed import pawl_version
from pawl.ports import Encoder, VersionFolder
from pawl.settings import Settings
from pawl.streams.sql_alone import open_stream

log = structlog.get_logger(__name__)

_ROUTES = (
    predict,
    feedback,
    quarantine,
    dead_letters,
    version_routes,
    model,
    label_routes,
    task_routes,
    encoder,
    events,
    health,
    docs,
)
_DESCRIPTION = """Classifies texts, learns from corrections, and never slips back.

Send a text to `/v1/predict`; send the right label to `/v1/feedback`; the next version has learned it. Every error is
an RFC 9457 problem."""


def create_app(settings: Settings, ports: Ports | None = None, *, member: Member | None = None) -> FastAPI:
    """The app. Ports that are not given are opened as the settings say for the time of the lifespan.

    The `Service` is `app.state.service` while the lifespan lasts. `member` says which one it is of several processes.
    """
    # Before the lifespan, unlike everything else: the wrappers around all requests count with them.
    metrics, load = AppMetrics(), partial(_load, Backends.of(settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            opened = ports if ports is not None else await stack.enter_async_context(_open_ports(settings))
            service = app.state.service = Service(settings, opened, load, metrics, member)
            async with service.running():
                if member is not None:  # takes no request from the others before it can answer one
                    await service.reloader.looked.wait()
                yield

    app = FastAPI(
        title="Pawl",
        version=pawl_version(),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    for routes in _ROUTES:
        app.include_router(routes.router)
    app.openapi = partial(openapi.describe, app)  # type: ignore[method-assign]  # FastAPI's documented way
    # Instead of what FastAPI would build at the first request. From now on `add_middleware` raises, so nothing can be
    # put around the routes that prediction does not pass.
    app.middleware_stack = Edge(app.router, [predict.ROUTE], settings, metrics)
    return app


def _load(backends: Backends, folder: VersionFolder, encoder: Encoder | None) -> ServedClassifier:
    return load_classifier(folder, encoder=encoder, backends=backends)


@asynccontextmanager
async def _open_ports(settings: Settings) -> AsyncIterator[Ports]:
    """Stores, stream and artefacts as the settings say, closed at the end of the block."""
    async with _open_database(settings) as engine:
        ledger = SqlVersionLedger(engine)
        stream = open_stream(settings, ledger)
        try:
            yield Ports(
                samples=SqlSampleStore.of(engine, settings),
                predictions=SqlPredictionLog(engine),
                ledger=ledger,
                labels=SqlLabelStore(engine),
                stream=stream,
                artefacts=FolderArtefactStore(settings.artefacts_path, [settings.encoders_path]),
            )
        finally:
            await stream.close()


@asynccontextmanager
async def _open_database(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine whose schema is brought up to date now, or later where the database is away."""
    if settings.database_url is None:
        settings.home_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = connect(settings.sql_url, settings.server_seconds)
    migrating: asyncio.Task[None] | None = None
    try:
        try:
            await upgrade(engine)
        except StoreUnavailable as error:
            log.warning("database_unavailable", problem=str(error))
            # A start does not fail for it: the app comes up, says in `/readyz` what it waits for, and works once it
            # answers.
            migrating = asyncio.create_task(_migrate_later(engine))
        yield engine
    finally:
        if migrating is not None:
            migrating.cancel()
            # Before `dispose`, which would take its connection away.
            await asyncio.gather(migrating, return_exceptions=True)
        await engine.dispose()


async def _migrate_later(engine: AsyncEngine) -> None:
    backoff = Backoff(longest=5.0)
    while True:
        await asyncio.sleep(backoff.next_pause())
        try:
            await upgrade(engine)
        except StoreUnavailable as error:
            log.debug("database_unavailable", problem=str(error))
        else:
            log.info("database_ready")
            return
