"""An app over a SQLite file and a folder of artefacts with the tiny encoder, and versions to put live in it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from starlette.types import Lifespan

from app.main import create_app
from app.serving.ports import Ports
from app.serving.service import Service
from pawl.artefacts import FolderArtefactStore
from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.classifier.served_heads import ServedHeads
from pawl.classifier.stacking import Stacking
from pawl.db.labels import SqlLabelStore
from pawl.db.predictions import SqlPredictionLog
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.encoders import MADE_WITH, EncoderOrigin
from pawl.domain.errors import StoreUnavailable
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE, Manifest
from pawl.domain.versions import LedgerChange, NewVersion, Version, VersionKind
from pawl.settings import Settings
from tests.databases import FILE, close_database, open_database
from tests.pawl.classifier.tiny_version import lexical_head
from tests.polling import eventually
from tests.streams import LocalStream
from tests.tiny_encoder import exported_tiny_encoder

LABELS = ("card", "money", "other")
_D, _M = 32, 16


class SwitchedStores:
    """Makes every method of the wrapped port raise `error` while it is switched off."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.is_up = True
        self.error: Exception = StoreUnavailable(problem="switched off")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if not self.is_up:
                raise self.error
            return await method(*args, **kwargs)

        return call


class World:
    """Everything outside the app, in one folder; the transport alone is in this process."""

    def __init__(self, home: Path, **overrides: Any) -> None:
        self.settings = Settings(home=home, **{"poll_seconds": 0.05, **overrides})
        self._threads = threading.enumerate()
        self.database = open_database(home)
        self.samples = SqlSampleStore(
            self.database, closed_labels=self.settings.closed_labels, most_bytes=self.settings.max_body_bytes
        )
        self.predictions = SqlPredictionLog(self.database)
        self.ledger = SqlVersionLedger(self.database)
        self.labels = SqlLabelStore(self.database)
        stores = (self.samples, self.predictions, self.ledger, self.labels)
        self.switches = [SwitchedStores(store) for store in stores]
        self.stream = LocalStream()
        self.artefacts = FolderArtefactStore(self.settings.artefacts_path)
        samples, predictions, ledger, labels = self.switches
        ports: Any = (samples, predictions, ledger, labels, self.stream, self.artefacts)
        self.app: FastAPI = create_app(self.settings, Ports(*ports))
        self.app.router.lifespan_context = self._closing(self.app.router.lifespan_context)

    async def close(self) -> None:
        """Closes the database; a later call opens it again."""
        await close_database(self.database, self._threads)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What is in the database, past the stores."""
        with closing(sqlite3.connect(self.settings.home_path / FILE)) as connection:
            return connection.execute(query).fetchall()

    def values(self, column: str, table: str) -> list[Any]:
        """One column of a table, in the order of its rows."""
        return [value for (value,) in self.rows(f"SELECT {column} FROM {table} ORDER BY rowid")]  # noqa: S608  # our own names

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    def switch_sql(self, *, on: bool, error: Exception | None = None) -> None:
        for one in self.switches:
            one.is_up = on
            one.error = error or one.error

    def write_version(
        self,
        number: int,
        tasks: Mapping[str, Sequence[str]] | None = None,
        made_with: EncoderOrigin | None = None,
        stacking: Stacking | None = None,
        threshold: float | None = None,
    ) -> NewVersion:
        """Publishes a folder whose heads are random, seeded with the number; with a `stacking` lexical ones, too."""
        encoder, digest = exported_tiny_encoder()
        rng = np.random.default_rng(number)
        features = RandomFeatures.create(_D, _M, 0)
        novelty = Novelty(np.eye(_D, dtype=np.float32), np.linspace(-2, 2, 101, dtype=np.float32), 0.3)
        files: dict[str, Path | bytes] = {f"{ENCODER_FOLDER}/{path.name}": path for path in encoder.iterdir()}
        files[FEATURES_FILE] = features.to_bytes()
        infos = {}
        for task, labels in (tasks or {"default": LABELS}).items():
            weights = rng.normal(size=(features.width, len(labels))).astype(np.float32)
            lexical = None
            if stacking is not None:
                lexical = lexical_head(rng, len(labels), stacking, threshold)
            semantic = LinearHead(labels, weights, np.zeros(len(labels), np.float32), 1.0)
            heads = ServedHeads(semantic, novelty, lexical)
            infos[task], packed = heads.packed(task)
            files |= packed
        parent = next((number for (number,) in self.rows("SELECT number FROM versions WHERE state = 'live'")), None)
        settings = {MADE_WITH: made_with.to_json()} if made_with is not None else {}
        manifest = Manifest(number, parent, VersionKind.HEAD, digest, infos, settings)
        folder = self.artefacts.publish(number, manifest, files)
        return NewVersion(
            number=number,
            parent=parent,
            kind=VersionKind.HEAD,
            trigger="test",
            encoder_digest=digest,
            heads=infos,
            manifest_digest=folder.manifest_digest,
            size_bytes=1,
        )

    async def promote(self, version: NewVersion, change: LedgerChange | None = None) -> Version:
        """Makes a written version live and hints at it."""
        promoted = await self.ledger.promote(version, change or LedgerChange())
        await self.stream.hint_version(promoted.number)
        return promoted

    async def serve(self, number: int, change: LedgerChange | None = None, **tasks: Sequence[str]) -> None:
        """Writes, promotes, and waits until the app answers with it."""
        await self.promote(self.write_version(number, tasks or None), change)
        await eventually(lambda: self.service.engine.number == number)

    def offline(self, number: int) -> Classifier:
        """The version loaded from its folder, without the service."""
        return load_classifier(self.artefacts.open(number))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the app for the time of its lifespan."""
        transport = httpx.ASGITransport(self.app)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(transport=transport, base_url="http://pawl") as client,
        ):
            yield client

    def _closing(self, lifespan: Lifespan[FastAPI]) -> Lifespan[FastAPI]:
        @asynccontextmanager
        async def closing_too(app: FastAPI) -> AsyncIterator[None]:
            try:
                async with lifespan(app):
                    yield
            finally:
                await self.close()

        return closing_too


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The answer is an RFC 9457 problem of this status; its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= set(body) <= {"type", "title", "status", "detail", "errors"}
    assert body["status"] == status
    assert (status in {429, 503}) == ("retry-after" in response.headers)
    return body
