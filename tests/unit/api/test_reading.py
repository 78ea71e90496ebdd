"""GET and DELETE: the answer's shape, lists, layers."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import LAYER, FakeEngine, fail, fall_ill, report, succeed

TOP = {
    "id", "status", "created_at", "started_at", "finished_at", "labels", "engine", "model", "error",
    "passed", "cached", "notes", "baseline", "probe", "cost", "diagnosis",
}  # fmt: skip
DIAGNOSIS = {
    "verdict", "confidence", "decided_by", "summary", "suppressed", "findings", "recommendations",
    "prescription", "model", "layers",
}  # fmt: skip
FINDING = {
    "code", "severity", "confidence", "layers", "title", "detail", "evidence", "causes", "docs",
}  # fmt: skip
RECOMMENDATION = {
    "id", "kind", "layers", "title", "why", "resolves", "change", "patch", "code", "effect",
}  # fmt: skip
ACTIVATION = {
    "mean", "std", "rms", "abs_max", "zero_fraction", "saturated_fraction", "dead_unit_fraction",
    "correlation",
}  # fmt: skip
GRADIENT = {
    "rms", "abs_max", "gain", "gain_quantiles", "gain_parts", "predicted_gain", "zero_fraction",
    "underflow_fraction_fp16", "nonfinite_count",
}  # fmt: skip
PARAMETER = {
    "name", "shape", "rms", "grad_norm", "grad_rms", "grad_to_weight", "snr", "update_ratio",
}  # fmt: skip


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def finished(client: TestClient, **more: Any) -> str:
    """Address of a final analysis."""
    answer = client.post("/v1/analyses?wait=20", json=body(**more))
    assert answer.status_code == 200
    return f"/v1/analyses/{answer.json()['id']}"


def test_the_answer_has_the_shape_of_the_contract(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = fall_ill
    answer = client.get(finished(client, labels={"branch": "main"}))
    assert answer.status_code == 200
    got = json.loads(answer.text, parse_constant=refuse_constant)
    assert got.keys() >= TOP
    assert got["engine"] == {"version": "0.1.0", "torch": "2.13.0", "device": "cpu"}
    assert got["model"] == {"format": "spec", "sha256": "0" * 64, "parameters": 2080, "layers": 1}
    assert (got["passed"], got["labels"]) == (False, {"branch": "main"})
    assert got["created_at"].endswith("Z")
    diagnosis = got["diagnosis"]
    assert diagnosis.keys() == DIAGNOSIS
    assert diagnosis["findings"][0].keys() == FINDING
    assert diagnosis["suppressed"][0].keys() == FINDING | {"reason"}
    assert diagnosis["recommendations"][0].keys() == RECOMMENDATION
    assert diagnosis["recommendations"][0]["effect"] is None
    assert diagnosis["prescription"] is None
    assert diagnosis["model"]["grad_norm"] == {"p50": 1.0, "p90": 1.1, "max": 1.2, "n": 12}
    layer = diagnosis["layers"][0]
    assert layer["activation"].keys() >= ACTIVATION
    assert layer["gradient"].keys() >= GRADIENT
    assert layer["parameters"][0].keys() >= PARAMETER
    assert layer["spread"] == {"gradient.gain": [0.18, 0.2]}


def test_numbers_are_finite_or_null(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = fall_ill
    diagnosis = client.get(finished(client)).json()["diagnosis"]
    assert diagnosis["layers"][0]["activation"]["correlation"] is None
    assert diagnosis["findings"][0]["evidence"] == {"total_gain": 3.1e-11, "profile": [1.0, None]}


def test_a_failure_is_told(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = fail
    got = client.get(finished(client)).json()
    assert got["status"] == "failed"
    assert got["error"]["code"] == "model_raised"
    assert (got["diagnosis"], got["passed"]) == (None, None)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("analysis_id", ["nobody", "%00", "a" * 100, "a%20b"])
def test_an_unknown_analysis_is_404(client: TestClient, method: str, analysis_id: str) -> None:
    answer = client.request(method, f"/v1/analyses/{analysis_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "analysis_not_found")


def test_lists_are_paged_newest_first(client: TestClient) -> None:
    ids = [finished(client).rpartition("/")[2] for _ in range(5)]
    seen, address = [], "/v1/analyses?limit=2&status=succeeded"
    while address:
        page = client.get(address)
        assert page.status_code == 200
        seen += [item["id"] for item in page.json()["items"]]
        address = page.links["next"]["url"] if "next" in page.links else ""
        assert bool(address) == (page.json()["next_cursor"] is not None)
    assert seen == ids[::-1]


def test_lists_are_filtered(client: TestClient, engine: FakeEngine) -> None:
    finished(client, labels={"branch": "main", "repo": "a"})
    engine.outcome = fall_ill
    finished(client, labels={"branch": "main:x"})

    def shown(query: str) -> list[str]:
        return [item["id"] for item in client.get(f"/v1/analyses?{query}").json()["items"]]

    assert shown("label=branch:main") == ["a1"]
    assert shown("label=branch:main:x") == ["a2"]
    assert shown("label=branch:main&label=repo:a") == ["a1"]
    assert shown("label=branch:main&label=repo:b") == []
    assert shown("verdict=unhealthy") == ["a2"]
    assert shown("status=failed") == []
    assert shown(f"model_sha256={'0' * 64}") == ["a2", "a1"]
    assert shown(f"model_sha256={'1' * 64}") == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("status=done", "status"),
        ("verdict=fine", "verdict"),
        ("label=main", "label"),
        ("label=a:b&label=a:c", "label"),
        ("model_sha256=xyz", "model_sha256"),
        ("cursor=%00", "cursor"),
        ("branch=main", "branch"),
    ],
)
def test_a_bad_filter_is_422(client: TestClient, query: str, parameter: str) -> None:
    answer = client.get(f"/v1/analyses?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == parameter


def test_delete_cancels_then_deletes(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = None
    address = client.post("/v1/analyses", json=body()).headers["location"]
    cancelled = client.delete(address)
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert client.get(address).status_code == 200
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


def test_layers_as_json(client: TestClient) -> None:
    got = client.get(f"{finished(client)}/layers").json()
    assert (got["status"], got["layers"][0]["name"]) == ("succeeded", "fc1")


def test_layers_as_a_table(client: TestClient) -> None:
    answer = client.get(f"{finished(client)}/layers", headers={"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["index"], row["name"], row["output_shape"]) == ("0", "fc1", "64x32")
    assert float(row["gradient.gain"]) == 0.19
    assert float(row["gradient.gain_quantiles.p50"]) == 0.18
    assert (float(row["gradient.gain.low"]), float(row["gradient.gain.high"])) == (0.18, 0.2)
    assert float(row["weight.grad_norm"]) == 1e-9
    assert row["activation.correlation"] == ""


def test_layers_before_the_end_are_empty(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = None
    address = client.post("/v1/analyses", json=body()).headers["location"]
    assert client.get(f"{address}/layers").json()["layers"] == []
    table = client.get(f"{address}/layers", headers={"accept": "text/csv"})
    assert table.text.splitlines() == ["index,name"]


DEEP = tuple(replace(LAYER, index=index, name=f"fc{index}") for index in range(7))


@pytest.fixture
def deep(client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of the layers of a network of seven, read three at a time."""
    monkeypatch.setattr("api.layers.AT_ONCE", 3)
    engine.outcome = lambda one: replace(succeed(one), report=replace(report(), layers=DEEP))
    return f"{finished(client)}/layers"


def test_layers_are_sent_as_they_are_read(client: TestClient, deep: str) -> None:
    got = client.get(deep)
    assert list(got.json()) == ["id", "status", "next_cursor", "layers"]
    assert [layer["name"] for layer in got.json()["layers"]] == [one.name for one in DEEP]
    assert got.json()["next_cursor"] is None
    table = csv.DictReader(io.StringIO(client.get(f"{deep}?format=csv").text))
    assert [row["name"] for row in table] == [one.name for one in DEEP]


@pytest.mark.parametrize("limit", [1, 3, 6, 7, 1000])
def test_layers_in_pages_are_all_layers_once(client: TestClient, deep: str, limit: int) -> None:
    names, address, pages = [], f"{deep}?limit={limit}", 0
    while address:
        answer = client.get(address)
        page = answer.json()
        assert len(page["layers"]) <= limit
        names += [layer["name"] for layer in page["layers"]]
        assert ("link" in answer.headers) is (page["next_cursor"] is not None)
        address, pages = answer.links.get("next", {}).get("url", ""), pages + 1
    assert names == [one.name for one in DEEP]
    assert pages == -(-len(DEEP) // limit)


def test_a_page_of_layers_as_a_table(client: TestClient, deep: str) -> None:
    answer = client.get(f"{deep}?format=csv&limit=2&cursor=3")
    assert [row["name"] for row in csv.DictReader(io.StringIO(answer.text))] == ["fc4", "fc5"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=-1"])
def test_pages_of_layers_that_there_are_not(client: TestClient, deep: str, query: str) -> None:
    answer = client.get(f"{deep}?{query}")
    assert answer.status_code == 422
    assert query.split("=", maxsplit=1)[0] in answer.text


def test_layers_of_nothing(client: TestClient) -> None:
    for limit in ("", "?limit=5"):
        answer = client.get(f"/v1/analyses/{UUID(int=0)}/layers{limit}")
        assert (answer.status_code, answer.json()["code"]) == (404, "analysis_not_found")


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        ("*/*", 200, "application/json"),
        ("application/*", 200, "application/json"),
        ("text/*", 200, "text/csv"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", 200, "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", 200, "text/csv"),
        ("application/problem+json", 200, "application/json"),
        ("application/json;q=0", 406, "application/problem+json"),
        ("image/png", 406, "application/problem+json"),
    ],
)
def test_accept_decides_the_form(
    client: TestClient, accept: str, status: int, media_type: str
) -> None:
    answer = client.get(f"{finished(client)}/layers", headers={"accept": accept})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(media_type)
