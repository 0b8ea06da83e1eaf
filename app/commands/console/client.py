"""The command line's HTTP client: finds the running service and turns every failure into a sentence."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.commands.console.terminal import CommandFailed, ServiceAway
from pawl.client import Client, RequestRefused, ServiceUnreachable
from pawl.json_values import Json
from pawl.settings import Settings

RUN_FILE = "run.json"
_ADVICE: dict[int, str] = {
    httpx.codes.OK: "Is another service listening there?",
    httpx.codes.SERVICE_UNAVAILABLE: "See `pawl status`, and `pawl doctor` for every part.",
}
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read here, not listened on


def address(host: str, port: int) -> str:
    """The URL at which this machine reaches a service that listens on `host` and `port`."""
    reachable = _ANY_ADDRESS.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def service_url(settings: Settings, url: str | None = None) -> str:
    """The service to talk to: the given URL, else what `pawl up` wrote into the home, else host and port."""
    if url:
        return url.rstrip("/")
    return running_url(settings.home_path) or address(settings.host, settings.port)


def running_url(home: Path) -> str | None:
    """The address in `<home>/run.json`; None where there is none (or a crash left it unreadable)."""
    try:
        url = json.loads((home / RUN_FILE).read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) else None


class ServiceClient:
    """A running service. Every method raises `CommandFailed` with what went wrong and what to do."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        self.url = url
        try:
            self._client = Client(url, timeout=timeout)
        except ServiceUnreachable as error:
            raise CommandFailed(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: str | int) -> Json:
        """The JSON body of a GET."""
        return self._send("GET", path, params=params)

    def post(self, path: str, body: Json) -> Json:
        """The JSON body of the answer to a POST."""
        return self._send("POST", path, json=body)

    def try_post(self, path: str, body: Json, tolerated: Collection[int]) -> tuple[int, Json]:
        """Status and body of the answer to a POST; for a tolerated failure the body is its `problem` in words."""
        with _failures_told():
            try:
                return httpx.codes.OK, self._client.request("POST", path, json=body)
            except RequestRefused as error:
                if error.status not in tolerated:
                    raise
                return error.status, {"problem": str(error)}

    def patch(self, path: str, body: Json, **params: str) -> Json:
        """The JSON body of the answer to a PATCH."""
        return self._send("PATCH", path, json=body, params=params)

    def delete(self, path: str, **params: str) -> Json:
        """The JSON body of the answer to a DELETE."""
        return self._send("DELETE", path, params=params)

    def served(self) -> int | None:
        """The number of the version it answers with; 0 where there is none yet, None while it is not ready."""
        with _failures_told():
            try:
                return int(self._client.request("GET", "/readyz").get("version") or 0)
            except RequestRefused as error:
                # A success without JSON: another program listens there, which is not the same as not ready.
                if error.status < httpx.codes.BAD_REQUEST:
                    raise
                return None

    def events(self) -> Iterator[tuple[str, Json]]:
        """See `Client.events`."""
        with _failures_told():
            yield from self._client.events()

    def _send(self, method: str, path: str, **arguments: Any) -> Json:
        with _failures_told():
            return self._client.request(method, path, **arguments)


@contextmanager
def _failures_told() -> Iterator[None]:
    """Raises the client's errors as `CommandFailed`, with what to do."""
    try:
        yield
    except RequestRefused as error:
        raise CommandFailed(str(error), _ADVICE.get(error.status, "")) from error
    except ServiceUnreachable as error:
        cause = error.__cause__
        advice = ""
        if isinstance(cause, httpx.ConnectError):
            advice = "Start the service with `pawl up`, or name its address with --url."
        elif isinstance(cause, httpx.TimeoutException):
            advice = "See `pawl doctor`."
        raise ServiceAway(str(error), advice) from error
