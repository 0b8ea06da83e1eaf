"""The command line's HTTP client: finds the running service and turns every failure into a sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.commands.console.terminal import CommandFailed
from pawl.settings import Settings

RUN_FILE = "run.json"
_SILENCE_SECONDS = 60.0  # the service sends a heartbeat every 15 s
_RECONNECT_SECONDS = 1.0
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


class ServiceAway(CommandFailed):
    """{problem}"""


class Service:
    """A running service. Every method raises `CommandFailed` with what went wrong and what to do."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        self.url = url
        try:
            self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(timeout, connect=3.0))
        except (httpx.InvalidURL, ValueError) as error:
            raise CommandFailed(f"{url} is not a URL: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: str | int) -> dict[str, Any]:
        """The JSON body of a GET."""
        return self._send("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON body of the answer to a POST."""
        return self._send("POST", path, json=body)

    def try_post(self, path: str, body: dict[str, Any], tolerated: Collection[int]) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to a POST; for a tolerated failure the body is its `problem` in words."""
        response = self._request("POST", path, json=body)
        if response.is_success:
            return response.status_code, _json_object(response, self.url)
        if response.status_code in tolerated:
            return response.status_code, {"problem": _problem(response)}
        raise CommandFailed(_problem(response), _advice(response.status_code))

    def patch(self, path: str, body: dict[str, Any], **params: str) -> dict[str, Any]:
        """The JSON body of the answer to a PATCH."""
        return self._send("PATCH", path, json=body, params=params)

    def delete(self, path: str, **params: str) -> dict[str, Any]:
        """The JSON body of the answer to a DELETE."""
        return self._send("DELETE", path, params=params)

    def served(self) -> int | None:
        """The number of the version it answers with; 0 where there is none yet, None while it is not ready."""
        response = self._request("GET", "/readyz")
        return int(_json_object(response, self.url).get("version") or 0) if response.is_success else None

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Type and payload of everything that happens from the first `next` on; opens the stream again if it breaks.

        While nothing happens it yields `quiet` every now and then.
        """
        last: int | None = None
        while True:
            headers = {} if last is None else {"last-event-id": str(last)}
            limits = httpx.Timeout(5.0, read=_SILENCE_SECONDS)
            try:
                with self._client.stream("GET", "/v1/events", headers=headers, timeout=limits) as response:
                    if not response.is_success:
                        response.read()
                        raise CommandFailed(_problem(response), _advice(response.status_code))
                    yield "opened", {}
                    for number, kind, data in _parse_events(response.iter_lines()):
                        last = last if number is None else number
                        yield kind, data
            except httpx.HTTPError:
                time.sleep(_RECONNECT_SECONDS)
                yield "quiet", {}

    def _send(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        response = self._request(method, path, **arguments)
        if response.is_success:
            return _json_object(response, self.url)
        raise CommandFailed(_problem(response), _advice(response.status_code))

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **arguments)
        except httpx.ConnectError as error:
            raise ServiceAway(
                f"nothing answers at {self.url}",
                "Start the service with `pawl up`, or name its address with --url.",
            ) from error
        except httpx.TimeoutException as error:
            raise ServiceAway(f"{self.url} did not answer in time", "See `pawl doctor`.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceAway(f"talking to {self.url} failed: {error}") from error


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[int | None, str, dict[str, Any]]]:
    """Server-sent events as (id, type, payload); a comment, which only says that the stream lives, is `quiet`."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield None, "quiet", {}
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if {"id", "event", "data"} <= fields.keys():
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
        fields = {}


def _json_object(response: httpx.Response, url: str) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise CommandFailed(f"{url} does not answer like Pawl", "Is another service listening there?")
    return body


def _problem(response: httpx.Response) -> str:
    """The text of a problem+json answer (RFC 9457)."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return f"{response.request.url} answered {response.status_code}"
    parts = [f"{response.status_code} {body.get('title', '')}".strip(), str(body.get("detail") or "")]
    lines = [": ".join(filter(None, parts))]
    for item in body.get("errors") or []:
        where = item.get("pointer") or item.get("parameter") or item.get("header")
        lines.append(f"  {where}: {item.get('detail')}" if where else f"  {item.get('detail')}")
    return "\n".join(lines)


def _advice(status: int) -> str:
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return "See `pawl status`, and `pawl doctor` for every part."
    return ""
