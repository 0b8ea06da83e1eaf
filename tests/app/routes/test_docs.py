"""`/docs` is whole without internet: nothing on the page leads to another host."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx


class _Page(HTMLParser):
    """What the page loads, and the scripts in it."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loaded += [value for name in ("src", "href") if (value := found.get(name))]
        self._in_script = tag == "script" and "src" not in found

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


async def test_the_page_loads_from_here_alone(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    page = _Page()
    page.feed(response.text)
    assert "://" not in response.text
    assert len(page.loaded) == 3
    kinds = set()
    for address in page.loaded:
        found = await client.get(response.url.join(address))
        assert found.status_code == 200
        assert len(found.content) > 1000
        kinds.add(found.headers["content-type"].partition(";")[0])
    assert kinds == {"text/javascript", "text/css", "image/png"}
    [script] = page.scripts
    [described] = re.findall(r"url: '([^']+)'", script)
    assert (await client.get(response.url.join(described))).json()["info"]["title"] == "Pawl"
    assert '"validatorUrl": null' in script


async def test_its_policy_lets_the_page_work_and_no_other_host_in(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    policy = dict(rule.strip().split(" ", 1) for rule in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    sources = {source for rule in policy.values() for source in rule.split()}
    page = _Page()
    page.feed(response.text)
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert sources == {"'none'", "'self'", "data:", "'unsafe-inline'", f"'sha256-{digest}'"}
    assert "'unsafe-inline'" not in policy["script-src"]


async def test_nothing_else_is_served_from_there(client: httpx.AsyncClient) -> None:
    for path in ("/docs/redoc.standalone.js", "/docs/..%2f..%2fmain.py", "/docs/%2e%2e/consts.py", "/docs/", "/redoc"):
        assert (await client.get(path)).status_code == 404, path


async def test_forms_that_exclude_each_other_are_described_so(client: httpx.AsyncClient) -> None:
    """The description says what the service does, for each of the four combinations."""
    made = (await client.get("/openapi.json")).json()
    predict = made["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    one, many = {"text": "a"}, {"texts": ["a"]}
    bodies: list[dict[str, object]] = [{**one}, {**many}, {**one, **many}, {}, {"text": None, **many}, {"text": None}]
    for texts in bodies:
        fits = sum(_fits(form, texts) for form in predict["oneOf"]) == 1
        assert ((await client.post("/v1/predict", json=texts)).status_code != 422) == fits, texts
    schemas = made["components"]["schemas"]
    patch = made["paths"]["/v1/labels/{label}"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    for schema, names in ((schemas["FeedbackItem"], ["text", "prediction_id"]), (patch, ["name", "merge_into"])):
        assert [form["required"] for form in schema["oneOf"]] == [[name] for name in names]


def _fits(form: dict[str, object], value: dict[str, object]) -> bool:
    """Whether a value fits one of the `oneOf`, which says of each field that it is null or that it is not."""
    assert set(form) == {"required", "properties"}
    required, properties = form["required"], form["properties"]
    assert isinstance(required, list)
    assert isinstance(properties, dict)
    null = {"type": "null"}
    ruled = all((value[name] is None) == (rule == null) for name, rule in properties.items() if name in value)
    return ruled and all(name in value for name in required)
