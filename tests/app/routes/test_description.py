"""The OpenAPI description, health and metrics."""

from __future__ import annotations

import json
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import AppMetrics
from tests.app.world import World

CALLS = {
    ("/v1/encoder", "get"),
    ("/v1/encoder", "post"),
    ("/v1/predict", "post"),
    ("/v1/feedback", "post"),
    ("/v1/feedback/{id}", "get"),
    ("/v1/feedback/{id}", "delete"),
    ("/v1/labels", "patch"),
    ("/v1/labels", "delete"),
    ("/v1/tasks", "get"),
    ("/v1/tasks/{task}", "delete"),
    ("/v1/quarantine", "get"),
    ("/v1/quarantine/{id}", "post"),
    ("/v1/dead-letters", "get"),
    ("/v1/dead-letters/{id}", "get"),
    ("/v1/dead-letters/{id}", "post"),
    ("/v1/model", "get"),
    ("/v1/versions", "get"),
    ("/v1/versions/{number}", "get"),
    ("/v1/versions/{number}/promote", "post"),
    ("/v1/consolidations", "post"),
    ("/v1/labels", "get"),
    ("/v1/labels", "post"),
    ("/v1/labels/changes/{id}", "get"),
    ("/v1/labels/{label}", "patch"),
    ("/v1/labels/{label}", "delete"),
    ("/v1/events", "get"),
    ("/livez", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
}


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


async def test_every_call_is_described_with_its_errors(client: httpx.AsyncClient) -> None:
    made = (await client.get("/openapi.json")).json()
    calls = {(path, method): call for path, methods in made["paths"].items() for method, call in methods.items()}
    assert set(calls) == CALLS
    for (path, method), call in calls.items():
        assert call["summary"], path
        assert call["description"], path
        for status, answer in call["responses"].items():
            if status.startswith(("4", "5")):
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
        assert {"500"} <= set(call["responses"])
        if "requestBody" in call:
            assert {"400", "413", "415", "422"} <= set(call["responses"]), (path, method)
    assert {"409", "429", "503", "504"} <= set(calls["/v1/predict", "post"]["responses"])
    assert "Location" in calls["/v1/feedback", "post"]["responses"]["202"]["headers"]


async def test_the_description_is_closed_and_has_examples(client: httpx.AsyncClient) -> None:
    made = (await client.get("/openapi.json")).json()
    schemas = made["components"]["schemas"]
    for reference in references(made):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    assert "$defs" not in json.dumps(made)
    assert "HTTPValidationError" not in schemas
    predict = made["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert predict["examples"]
    assert predict["additionalProperties"] is False
    feedback = made["paths"]["/v1/feedback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert references(feedback) == {"#/components/schemas/FeedbackItem", "#/components/schemas/FeedbackBatch"}
    assert (await client.get("/docs")).status_code == 200


async def test_metrics_show_every_limit(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    await client.post("/v1/predict", json={"texts": ["a", "b"]})
    await client.get("/nothing/here")
    text = (await client.get("/metrics")).text
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["pawl_live_version",] == 1
    assert found["pawl_predicted_texts_total", "meaning"] == 2
    assert found["pawl_predict_queue_limit",] == world.settings.predict_queue
    assert found["pawl_http_requests_total", "/v1/predict", "200", "POST"] == 1
    assert found["pawl_http_requests_total", "", "404", "unmatched"] == 1
    for gauge in ("predict_queue_texts", "prediction_buffer", "feedback_backlog", "event_listeners", "version_waiters"):
        assert (f"pawl_{gauge}",) in found


def test_two_apps_in_one_process_have_their_own_metrics() -> None:
    first, second = AppMetrics(), AppMetrics()
    first.predicted.labels("both").inc()
    assert second.registry.get_sample_value("pawl_predicted_texts_total", {"by": "both"}) == 0
