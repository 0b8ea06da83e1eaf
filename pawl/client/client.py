"""A client of a running service.

    with Client() as pawl:
        answer = pawl.predict(["where is my card?"])
        receipts = pawl.feedback([Correction("card_arrival", prediction_id=answer.predictions[0].id)])
        learned = pawl.wait_until_learned(receipts)
        pawl.predict(["where is my card?"], min_version=learned, wait_seconds=10.0)

The last answer is from a version that has learned the correction.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import TypeAdapter

from pawl.backoff import Backoff
from pawl.client.answers import (
    Correction,
    FeedbackReceipt,
    FeedbackStatus,
    ListedVersion,
    LiveModel,
    PredictionBatch,
)
from pawl.domain.errors import PawlError
from pawl.domain.samples import DEFAULT_TASK, SampleState
from pawl.json_values import Json

DEFAULT_URL = "http://127.0.0.1:8000"
# The two that ask to come again (`Retry-After`); any other refusal would be the same again.
_BUSY = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
_POLL_SECONDS = 0.1
_SILENCE_SECONDS = 60.0  # the service sends a heartbeat every 15 s
_RECONNECT_SECONDS = 1.0


class ServiceUnreachable(PawlError):
    """{problem}"""


class RequestRefused(PawlError):
    """{problem}"""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem=problem)
        self.status = status
        """The HTTP status."""


class NotLearned(PawlError):
    """{id} is {state}: {reason}"""


_PREDICTIONS = TypeAdapter(PredictionBatch)
_RECEIPTS = TypeAdapter(list[FeedbackReceipt])
_STATUS = TypeAdapter(FeedbackStatus)
_MODEL = TypeAdapter(LiveModel)
_VERSIONS = TypeAdapter(list[ListedVersion])


class Client:
    """A running service, over HTTP. A context manager; may be used from several threads.

    Args:
        url: Where the service answers.
        timeout: Seconds that one answer may take.
        tries: Times that a request is sent, with growing pauses, while the service is busy or away. Feedback that is
            sent again counts once.
        transport: How requests are sent, such as `httpx.HTTPTransport(uds=...)`; over TCP without it.

    Every method raises `RequestRefused` for an answer that is an error, with its text and status, and
    `ServiceUnreachable` where there is no answer.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 30.0,
        tries: int = 1,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._tries = tries
        try:
            # A host that is not there is known in 3 s, while an answer (`wait_ms`) may take long.
            limits = httpx.Timeout(timeout, connect=3.0)
            self._http = httpx.Client(base_url=self.url, timeout=limits, transport=transport)
        except (httpx.InvalidURL, ValueError) as error:
            raise ServiceUnreachable(problem=f"{url} is not a URL: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def predict(
        self,
        texts: Sequence[str],
        *,
        task: str = DEFAULT_TASK,
        top_k: int = 1,
        min_version: int | None = None,
        wait_seconds: float = 0.0,
    ) -> PredictionBatch:
        """Labels texts: the `top_k` best labels of each. Waits up to `wait_seconds` for version `min_version`."""
        body: Json = {"texts": list(texts), "task": task, "top_k": top_k}
        if min_version is not None:
            body |= {"min_version": min_version, "wait_ms": round(wait_seconds * 1000)}
        return _PREDICTIONS.validate_python(self.request("POST", "/v1/predict", json=body))

    def feedback(self, corrections: Iterable[Correction]) -> list[FeedbackReceipt]:
        """Sends the right labels; accepted all or none. The receipts are in the same order."""
        items = [{name: value for name, value in asdict(each).items() if value is not None} for each in corrections]
        # One key for all tries of this call: where only the answer was lost, nothing is stored twice.
        headers = {"idempotency-key": uuid.uuid4().hex}
        answer = self.request("POST", "/v1/feedback", json={"items": items}, headers=headers)
        return _RECEIPTS.validate_python(answer["items"])

    def status(self, feedback_id: str) -> FeedbackStatus:
        """Where a piece of feedback is."""
        return _STATUS.validate_python(self.request("GET", f"/v1/feedback/{feedback_id}"))

    def wait_until_learned(self, receipts: Iterable[FeedbackReceipt], seconds: float = 60.0) -> int:
        """Waits until all feedback is learned; returns the first version that has learned all of it.

        Raises:
            NotLearned: Some of it will not be learned: it is in quarantine, retracted or dead.
            TimeoutError: The learner took more than `seconds`.
        """
        deadline = time.monotonic() + seconds
        versions = [0]
        for receipt in receipts:
            while (status := self.status(receipt.id)).state is SampleState.QUEUED:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{receipt.id} is still queued after {seconds:g} s; is the learner running?")
                time.sleep(_POLL_SECONDS)
            if status.state is not SampleState.LEARNED or status.learned_in_version is None:
                raise NotLearned(id=receipt.id, state=status.state.value, reason=status.reason)
            versions.append(status.learned_in_version)
        return max(versions)

    def model(self) -> LiveModel:
        """The version that serves, and the labels of its tasks."""
        return _MODEL.validate_python(self.request("GET", "/v1/model"))

    def versions(self, *, before: int | None = None, limit: int = 50) -> list[ListedVersion]:
        """The lineage, newest first, refused versions included; `before` leaves out that number and larger ones."""
        page = {"limit": limit} | ({} if before is None else {"before": before})
        return _VERSIONS.validate_python(self.request("GET", "/v1/versions", params=page)["items"])

    def events(self) -> Iterator[tuple[str, Json]]:
        """Type and payload of everything that happens from the first `next` on, without end.

        Opens the stream again if it breaks, and yields `opened` each time; while nothing happens, `quiet`.
        """
        last: int | None = None
        while True:
            # The service goes on after this id, so nothing is lost in the gap.
            headers = {} if last is None else {"last-event-id": str(last)}
            limits = httpx.Timeout(5.0, read=_SILENCE_SECONDS)
            try:
                with self._http.stream("GET", "/v1/events", headers=headers, timeout=limits) as response:
                    if not response.is_success:
                        response.read()
                        raise RequestRefused(response.status_code, _problem(response))
                    yield "opened", {}
                    for number, kind, data in _parse_events(response.iter_lines()):
                        last = last if number is None else number
                        yield kind, data
            except httpx.HTTPError:
                time.sleep(_RECONNECT_SECONDS)
                yield "quiet", {}

    def request(self, method: str, path: str, **arguments: Any) -> Json:
        """Sends any request (`arguments` as httpx takes them) and returns the JSON object that is answered."""
        backoff = Backoff(first=0.5, longest=8.0)
        while True:
            try:
                return self._send(method, path, arguments)
            except (RequestRefused, ServiceUnreachable) as error:
                pause = backoff.next_pause()
                if backoff.failures >= self._tries or (isinstance(error, RequestRefused) and error.status not in _BUSY):
                    raise
            time.sleep(pause)

    def _send(self, method: str, path: str, arguments: Mapping[str, Any]) -> Json:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.ConnectError as error:
            raise ServiceUnreachable(problem=f"nothing answers at {self.url}") from error
        except httpx.TimeoutException as error:
            raise ServiceUnreachable(problem=f"{self.url} did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceUnreachable(problem=f"talking to {self.url} failed: {error}") from error
        if not response.is_success:
            raise RequestRefused(response.status_code, _problem(response))
        body = _json_object(response)
        if body is None:
            raise RequestRefused(response.status_code, f"{self.url} does not answer like Pawl")
        return body


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[int | None, str, Json]]:
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
        # Only whole events: `retry:` comes in a block of its own.
        if {"id", "event", "data"} <= fields.keys():
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
        fields = {}


def _json_object(response: httpx.Response) -> Json | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _problem(response: httpx.Response) -> str:
    """The text of a problem+json answer (RFC 9457)."""
    body = _json_object(response)
    if body is None:
        return f"{response.request.url} answered {response.status_code}"
    parts = [f"{response.status_code} {body.get('title', '')}".strip(), str(body.get("detail") or "")]
    lines = [": ".join(filter(None, parts))]
    for item in body.get("errors") or []:
        where = item.get("pointer") or item.get("parameter") or item.get("header")
        lines.append(f"  {where}: {item.get('detail')}" if where else f"  {item.get('detail')}")
    return "\n".join(lines)
