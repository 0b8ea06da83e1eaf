"""`/docs`: the description as a page to read and try. Everything it loads comes from here, so it needs no internet."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

_STATIC = files("fastapi_offline") / "static"
_KINDS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


@router.get("/docs")
async def read_docs(request: Request) -> Response:
    """Its addresses are relative: they hold behind a proxy that puts all of this under a prefix."""
    page = get_swagger_ui_html(
        title=f"{request.app.title} {request.app.version}",
        openapi_url="openapi.json",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # else it sends the description's address to a public service
    )
    html = bytes(page.body).decode()
    return HTMLResponse(html, headers={"content-security-policy": _policy(html)})


def _policy(html: str) -> str:
    """Nothing from another host, and no script but Swagger UI and the page's own."""
    # Exactly one: where a newer FastAPI writes another page, this fails in the tests instead of in browsers.
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        f"script-src 'self' 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@router.get("/docs/{name}")
async def read_file(name: str) -> Response:
    """One of the page's files."""
    if name not in _KINDS:  # names that are known, so no path leads out of the folder
        raise HTTPException(404)
    content = (_STATIC / name).read_bytes()
    return Response(content, media_type=_KINDS[name], headers={"cache-control": "public, max-age=3600"})
