"""The composition root of the HTTP service. Nothing connects or loads before the lifespan starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app import errors, openapi
from app.http.edge import Edge
from app.metrics import AppMetrics
from app.routes import dead_letters, docs, encoder, events, feedback, health, model, predict, quarantine
from app.routes import labels as label_routes
from app.routes import tasks as task_routes
from app.routes import versions as version_routes
from app.serving.health.group_metrics import Member
from app.serving.predictions.engine import ServedClassifier
from app.serving.service import Ports, Service
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
from pawl.ports import (
    ArtefactStore,
    Encoder,
    FeedbackStream,
    LabelStore,
    PredictionLog,
    SampleStore,
    VersionFolder,
    VersionLedger,
)
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


def create_app(
    settings: Settings,
    *,
    samples: SampleStore | None = None,
    predictions: PredictionLog | None = None,
    ledger: VersionLedger | None = None,
    labels: LabelStore | None = None,
    stream: FeedbackStream | None = None,
    artefacts: ArtefactStore | None = None,
    member: Member | None = None,
) -> FastAPI:
    """The app. A port that is not given is built from the settings when the lifespan starts, and closed when it ends.

    The `Service` is `app.state.service` while the lifespan lasts. `member` says which one it is of several processes.
    """
    metrics, load = AppMetrics(), partial(_load, Backends.of(settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            engine = None
            if samples is None or predictions is None or ledger is None or labels is None:
                engine = await _open_database(settings, stack)
            versions = ledger or SqlVersionLedger(_given(engine))
            transport = stream or _open_stream(settings, versions, stack)
            ports = Ports(
                samples=samples or _sample_store(engine, settings),
                predictions=predictions or SqlPredictionLog(_given(engine)),
                ledger=versions,
                labels=labels or SqlLabelStore(_given(engine)),
                stream=transport,
                artefacts=artefacts or FolderArtefactStore(settings.artefacts_path, [settings.encoders_path]),
            )
            service = app.state.service = Service(settings, ports, load, metrics, member)
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
    errors.install(app)
    for routes in _ROUTES:
        app.include_router(routes.router)
    app.add_middleware(
        Edge,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        direct={("POST", predict.PATH): predict.predict},
        server_seconds=settings.server_seconds,
    )
    app.openapi = partial(openapi.describe, app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _load(backends: Backends, folder: VersionFolder, encoder: Encoder | None) -> ServedClassifier:
    return load_classifier(folder, encoder=encoder, backends=backends)


def _given(engine: AsyncEngine | None) -> AsyncEngine:
    if engine is None:
        raise AssertionError("a store is built only where the database was opened")
    return engine


def _sample_store(engine: AsyncEngine | None, settings: Settings) -> SampleStore:
    return SqlSampleStore(
        _given(engine),
        heldout_fraction=settings.heldout_fraction,
        idempotency_hours=settings.idempotency_retention_hours,
        closed_labels=settings.closed_labels,
        most_bytes=settings.max_body_bytes,
    )


def _open_stream(settings: Settings, ledger: VersionLedger, stack: AsyncExitStack) -> FeedbackStream:
    stream = open_stream(settings, ledger)
    stack.push_async_callback(stream.close)
    return stream


async def _open_database(settings: Settings, stack: AsyncExitStack) -> AsyncEngine:
    """An engine whose schema is brought up to date now, or later where the database is away."""
    if settings.database_url is None:
        settings.home_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = connect(settings.sql_url, settings.server_seconds)
    stack.push_async_callback(engine.dispose)
    try:
        await upgrade(engine)
    except StoreUnavailable as error:
        log.warning("database_unavailable", problem=str(error))
        migrating = asyncio.create_task(_migrate_later(engine))
        stack.push_async_callback(_cancel, migrating)
    return engine


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


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
