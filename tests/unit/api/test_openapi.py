"""The OpenAPI document, and the server held to it by generated requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from api.error_handlers import STATUS
from api.schemas import problems
from api.schemas.reading import read_analysis
from service.config import Settings
from service.domain.model_source import model_source
from tests.unit.api.contract import contract_of
from tests.unit.api.fake_engine import FakeEngine, fall_ill
from tests.unit.api.reports import Sketcher

CONTRACT = Path(__file__).with_name("contract.json")
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.json"))
CASES = 20
"""Generated requests per operation."""
GATE = ("analysis_failed", "not_finished")
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def fed_engine() -> FakeEngine:
    """One with a sick analysis to read."""
    engine = FakeEngine()
    engine.outcome = fall_ill
    return engine


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    document: dict[str, Any] = create_app(FakeEngine(), Settings()).openapi()
    return document


def sketching_app() -> FastAPI:
    """With pictures that cost nothing."""
    app = create_app(fed_engine(), Settings())
    app.state.drawer = Sketcher()
    return app


schema = schemathesis.openapi.from_asgi("/openapi.json", sketching_app())


@schema.parametrize()
@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_generated_requests_are_answered_as_documented(case: Any) -> None:
    if case.query and case.query.get("wait"):
        case.query["wait"] = "0"
    response = case.call()
    # not_a_server_error would take a shut gate for a fault.
    assert response.status_code < 500 or response.json()["code"] in GATE
    case.validate_response(response, checks=CHECKS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_good_requests(path: Path, document: dict[str, Any]) -> None:
    posted = document["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    example = posted["application/json"]["examples"][path.stem]["value"]
    assert example == json.loads(path.read_text())
    assert model_source(read_analysis(example).model, "spec")


def test_examples_with_stored_files_are_good_requests(document: dict[str, Any]) -> None:
    posted = document["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    examples = posted["application/json"]["examples"]
    stored, weighted = (
        read_analysis(examples[name]["value"])
        for name in ("stored_model_and_real_samples", "spec_with_trained_weights")
    )
    assert len(stored.artifact_ids) == len(weighted.artifact_ids) == 2
    assert (stored.retain, stored.probe.mode) == ("statistics", "as_saved")
    assert model_source(weighted.model, "spec")


def test_operation_ids_are_the_names_of_what_is_done(document: dict[str, Any]) -> None:
    ids = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    }
    assert ids == {
        "submit_analysis", "read_analysis", "list_analyses", "remove_analysis", "list_layers",
        "follow_analysis", "read_report", "read_chart", "read_sarif", "read_junit",
        "compare_analyses", "read_layer_history",
        "read_repaired_spec", "read_repaired_code", "read_repaired_weights",
        "put_artifact", "read_artifact", "delete_artifact", "catalog", "live", "ready", "metrics",
    }  # fmt: skip


PRESCRIPTION = {"analysis_unfinished", "no_prescription", "spec_only", "weights_not_kept"}
"""What only prescription/… answers with."""


def test_every_operation_documents_its_problems(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            assert "500" in operation["responses"]
            for status, response in operation["responses"].items():
                if int(status) >= 400 and status != "503":
                    assert set(response["content"]) == {"application/problem+json"}
    told = document["paths"]["/v1/analyses"]["post"]["responses"]
    assert {"417", "502", "504", "413", "415", "406", "422", "404", "409"} <= told.keys()
    described = " ".join(response["description"] for response in told.values())
    elsewhere = {"not_found", "method_not_allowed", "analysis_not_found"} | PRESCRIPTION
    unsaid = elsewhere | {"change_refused"}  # told inside an analysis, never by a call
    assert all(f"`{code}`" in described for code in STATUS.keys() - unsaid)


def test_every_operation_behind_the_door_says_so(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            guarded = path.startswith("/v1/") or path == "/metrics"
            assert ("security" in operation) == guarded
            assert not guarded or {"401", "403", "429"} <= operation["responses"].keys()
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names
    assert names <= document["components"]["schemas"].keys()


def test_every_field_and_parameter_is_described(document: dict[str, Any]) -> None:
    """With its unit and range, as far as it has any; a constant says itself."""
    fields = {
        f"{name}.{field}": value
        for name, schema in document["components"]["schemas"].items()
        for field, value in schema.get("properties", {}).items()
    }
    assert len(fields) > 200
    operations = [one for path in document["paths"].values() for one in path.values()]
    fields |= {
        f"{operation['operationId']} {one['name']}": one
        for operation in operations
        for one in operation.get("parameters", ())
    }
    silent = [
        name for name, one in fields.items() if "description" not in one and "const" not in one
    ]
    assert silent == []


def test_every_problem_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                told = response.get("content", {}).get("application/problem+json")
                if told is None:
                    continue
                values = [one["value"] for one in told["examples"].values()]
                codes = set(re.findall(r"`(\w+)`", response["description"]))
                assert {one["code"] for one in values} == codes
                assert {one["status"] for one in values} == {int(status)}
                kind = told["schema"]["$ref"].rpartition("/")[2]
                for one in values:
                    assert getattr(problems, kind).model_validate(one).title


def test_every_request_example_is_taken_as_it_stands(document: dict[str, Any]) -> None:
    """But those whose ids are to be filled in, and they say so."""
    posted = document["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    examples = posted["application/json"]["examples"]
    kinds = set()
    with TestClient(create_app(FakeEngine(), Settings())) as client:
        for example in examples.values():
            kinds.add(example["value"]["model"].get("kind", "spec"))
            if "put the ids" in example["summary"]:
                assert "sha256:000" in json.dumps(example) or "sha256:111" in json.dumps(example)
                continue
            answer = client.post("/v1/analyses?wait=0", json=example["value"])
            assert answer.status_code in (200, 202), answer.text
    assert kinds == {"spec", "keras", "artifact"}


def test_json_is_told_only_where_it_is_given(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                for told in response.get("content", {}).values():
                    assert told["schema"]


def test_the_contract_holds() -> None:
    """What is told in words may change; paths, parameters, fields and types were promised."""
    kept = json.loads(CONTRACT.read_text())
    now = contract_of(create_app(FakeEngine(), Settings()).openapi())
    told = list(_differences(kept, now))
    assert not told, (
        "the API differs from tests/unit/api/contract.json:\n  "
        + "\n  ".join(told[:20])
        + "\nwhat only adds is written there by `make contract`; what breaks callers needs a /v2"
    )


def _differences(kept: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(kept, dict) and isinstance(now, dict):
        for key in sorted(kept.keys() | now.keys()):
            if key not in now:
                yield f"gone: {where}/{key}"
            elif key not in kept:
                yield f"new: {where}/{key}"
            else:
                yield from _differences(kept[key], now[key], f"{where}/{key}")
    elif kept != now:
        yield f"changed: {where}: {kept!r} → {now!r}"


def test_words_are_no_promise_and_fields_called_like_them_are() -> None:
    words = {"title": "T", "properties": {"title": {"type": "string", "title": "Title"}}}
    stripped = contract_of({"paths": {}, "components": words})["components"]
    assert stripped == {"properties": {"title": {"type": "string"}}}
    assert list(_differences(stripped, {"properties": {}})) == ["gone: /properties/title"]
