"""What ordinary clients see on a real connection: early answers to large bodies, methods, and what is not HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from app.http import request_body
from tests.app.http.test_server import listening
from tests.app.world import World, assert_problem

SIZE = 20 * 2**20
JSON = {"content-type": "application/json"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    world = World(tmp_path)
    async with listening(world.settings, world.app) as (client, _):
        yield client


def _send(client: httpx.AsyncClient, data: bytes) -> bytes:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


async def answer_to(client: httpx.AsyncClient, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to raw bytes, on a connection that the server closes."""
    head, _, body = (await asyncio.to_thread(_send, client, data)).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/feedback", "/nothing"])
async def test_httpx_reads_the_answer_to_20_mb(served: httpx.AsyncClient, path: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(320):
            yield b" " * (SIZE // 320)

    close = {"connection": "close"}
    for content, more in ((b" " * SIZE, {}), (b" " * SIZE, close), (pieces(), {}), (b" " * SIZE, close)):
        response = await served.post(path, content=content, headers=JSON | more)
        assert_problem(response, 404 if path == "/nothing" and not isinstance(content, bytes) else 413)


async def test_urllib_and_http_client_read_it(served: httpx.AsyncClient) -> None:
    def by_urllib() -> int:
        request = urllib.request.Request(f"{served.base_url}/v1/predict", b" " * SIZE, JSON)  # noqa: S310 - http
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)  # noqa: S310 - http
        with caught.value as error:
            assert json.load(error)["type"] == "urn:pawl:body-too-large"
            return error.code

    def by_http_client() -> int:
        def pieces() -> Iterator[bytes]:
            for _ in range(320):
                yield b" " * (SIZE // 320)

        connection = http.client.HTTPConnection(served.base_url.host, served.base_url.port, timeout=60)
        connection.request("POST", "/v1/predict", body=pieces(), headers=JSON, encode_chunked=True)
        response = connection.getresponse()
        assert json.load(response)["status"] == 413
        connection.close()
        return response.status

    assert await asyncio.to_thread(by_urllib) == 413
    assert await asyncio.to_thread(by_http_client) == 413


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_curl_reads_it(served: httpx.AsyncClient, tmp_path: Path, expect: str, chunked: bool) -> None:
    (tmp_path / "large").write_bytes(b" " * SIZE)
    command = ["curl", "-sS", "-w", "%{http_code}", "-H", expect, "-H", "content-type: application/json"]
    command += ["-H", "transfer-encoding: chunked"] if chunked else []
    command += ["--data-binary", f"@{tmp_path / 'large'}", f"{served.base_url}/v1/predict"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout[-3:]) == (0, "413"), done.stderr


async def test_a_client_that_waits_for_leave_gets_its_answer_without_sending(served: httpx.AsyncClient) -> None:
    head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {SIZE}\r\nexpect: 100-continue\r\n\r\n"
    status, headers, body = await answer_to(served, head.encode())
    assert (status, headers["connection"], json.loads(body)["status"]) == (413, "close", 413)
    small = (
        "POST /v1/feedback HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n"
    )
    assert (await answer_to(served, f"{small}\r\n{{}}".encode()))[0] == 100


async def test_what_is_drained_is_bounded(served: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_IDLE_SECONDS", 0.05)
    stalled = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {SIZE}\r\n\r\n and then nothing"
    status, headers, _ = await answer_to(served, stalled.encode())
    assert (status, headers["connection"]) == (413, "close")
    monkeypatch.setattr(request_body, "_DRAINED_BYTES", 2**20)

    def endless() -> int:
        with socket.create_connection((served.base_url.host, served.base_url.port or 0), timeout=20) as connection:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999999\r\n\r\n")
            sent = 0
            try:
                while sent < 2**30:
                    sent += connection.send(b" " * 2**16)
            except OSError:
                return sent
            return sent

    assert await asyncio.to_thread(endless) < 2**28


async def test_head_is_get_without_the_body(served: httpx.AsyncClient) -> None:
    for path in ("/livez", "/v1/labels", "/metrics", "/docs", "/openapi.json", "/v1/events"):
        response = await served.head(path)
        assert (response.status_code, response.content) == (200, b""), path
    assert (await served.head("/livez")).headers["content-length"] == str(len((await served.get("/livez")).content))
    assert (await served.head("/nothing")).status_code == 404
    assert (await served.head("/v1/predict")).status_code == 405
    assert (await served.head("/v1/versions/7")).status_code == 404


async def test_allow_is_complete_and_an_unknown_method_is_405(served: httpx.AsyncClient) -> None:
    known = {
        "/livez": "GET, HEAD",
        "/v1/labels": "GET, HEAD, POST, PATCH, DELETE",
        "/v1/labels/refund": "PATCH, DELETE",
        "/v1/feedback/fb_1": "GET, HEAD, DELETE",
        "/v1/predict": "POST",
        "/docs": "GET, HEAD",
    }
    for path, allowed in known.items():
        for method in ("PUT", "OPTIONS", "TRACE", "PROPFIND"):
            response = await served.request(method, path)
            assert_problem(response, 405)
            assert response.headers["allow"] == allowed, path
        for method in ("BREW", "get"):
            line = f"{method} {path}?limit=1 HTTP/1.1\r\nhost: x\r\n\r\n"
            status, headers, body = await answer_to(served, line.encode())
            assert (status, headers["allow"], json.loads(body)["status"]) == (405, allowed, 405)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"BREW\r\n\r\n", b"GET /\xff HTTP/9.9\r\n\r\n", b"\r\n\0"]
)
async def test_what_is_not_http_is_a_problem(served: httpx.AsyncClient, data: bytes) -> None:
    status, headers, body = await answer_to(served, data)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["type"] == "urn:pawl:not-http"


async def test_a_compressed_body_and_another_charset_are_415(served: httpx.AsyncClient) -> None:
    for encoding in ("gzip", "br", "identity, gzip"):
        response = await served.post("/v1/predict", content=b"{}", headers=JSON | {"content-encoding": encoding})
        assert "compressed" in assert_problem(response, 415)["detail"]
        assert response.headers["accept-encoding"] == "identity"
    for charset in ("latin-1", '"UTF-16"', "gb18030"):
        response = await served.post("/v1/feedback", headers={"content-type": f"application/json; charset={charset}"})
        assert "UTF-8" in assert_problem(response, 415)["detail"]
    for kind in ("application/json;charset=UTF-8", 'application/json; charset="utf-8"', "application/json; x=y;;"):
        response = await served.post("/v1/feedback", content=b"{}", headers={"content-type": kind})
        assert_problem(response, 422)
