"""The OpenAPI document, and the server held to it by generated requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
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

from api.answer_examples import ANSWERS
from api.app import create_app
from api.error_handlers import STATUS
from api.links import docs_path
from api.openapi_examples import FILES
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


def test_every_number_tells_its_unit_or_range(document: dict[str, Any]) -> None:
    silent = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, value in schema.get("properties", {}).items()
        if _is_numeric(value) and not TELLING.search(value["description"])
    ]
    assert silent == []


TELLING = re.compile(
    r"\d|≥|[Ss]econds|[Bb]ytes|MiB|[Nn]umber of|[Hh]ow many|units of|elements|Position|"
    r"HTTP status|any sign"
)


def _is_numeric(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    parts = [*schema.get("anyOf", ()), schema.get("items"), schema.get("additionalProperties")]
    return schema.get("type") in ("number", "integer") or any(map(_is_numeric, parts))


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
    """Once the files are stored that some of them speak of, as their summaries say."""
    posted = document["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    examples = posted["application/json"]["examples"]
    kinds = set()
    with TestClient(create_app(FakeEngine(), Settings())) as client:
        for example in examples.values():
            for name in re.findall(r"examples/files/(\S+)", example["summary"]):
                stored = client.put("/v1/artifacts", content=(FILES / name).read_bytes())
                assert stored.json()["id"] in json.dumps(example["value"])
            kinds.add(example["value"]["model"].get("kind", "spec"))
            answer = client.post("/v1/analyses?wait=0", json=example["value"])
            assert answer.status_code in (200, 202), answer.text
        for example in posted["multipart/form-data"]["examples"].values():
            answer = client.post("/v1/analyses?wait=0", **form(example["value"]))
            assert answer.status_code in (200, 202), answer.text
    assert kinds == {"spec", "keras", "artifact"}


def form(parts: dict[str, Any]) -> dict[str, Any]:
    """An example of a form, as a client sends it."""
    files = {
        name: (FILES / parts[name]).read_bytes() for name in ("model", "data") if name in parts
    }
    return {"files": files, "data": {"request": json.dumps(parts["request"])}}


def test_every_answer_has_an_example_that_keeps_to_its_schema(document: dict[str, Any]) -> None:
    """Real answers, but for pages, pictures and tensors."""
    shown = set()
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    if int(status) >= 400 and media_type == "application/problem+json":
                        continue
                    if media_type.partition(";")[0] in UNSHOWN:
                        assert "examples" not in content
                        continue
                    where = f"{operation['operationId']} {status} {media_type}"
                    assert content.get("examples"), where
                    check = validator(content["schema"], document)
                    for name, example in content["examples"].items():
                        faults = [str(one) for one in check.iter_errors(example["value"])]
                        assert faults == [], f"{where}: {name}"
                        shown.add(name)
    assert shown == {path.stem for path in ANSWERS.iterdir()}


UNSHOWN = {"text/html", "image/svg+xml", "image/png", "application/octet-stream"}


def validator(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """Of JSON Schema 2020-12, as OpenAPI 3.1 has it."""
    whole = {**schema, "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def test_answers_are_held_to_their_schemas(document: dict[str, Any]) -> None:
    """What would be left of the test above if nothing could fail it."""
    answer = json.loads((ANSWERS / "analysis.json").read_text())
    schema = document["paths"]["/v1/analyses/{analysis_id}"]["get"]["responses"]["200"]["content"]
    check = validator(schema["application/json"]["schema"], document)
    assert check.is_valid(answer)
    assert not check.is_valid({**answer, "status": "done"})
    assert not check.is_valid({name: one for name, one in answer.items() if name != "cost"})


def test_the_examples_tell_one_story() -> None:
    """The same analysis in every form, whose finding leads into the guide."""
    answer = json.loads((ANSWERS / "analysis.json").read_text())
    (finding, *_) = answer["diagnosis"]["findings"]
    assert finding["docs"] == docs_path(finding["code"])
    for name in ("findings.sarif", "junit.xml", "summary.md"):
        text = (ANSWERS / name).read_text()
        assert answer["id"] in text, name
        assert f"http://127.0.0.1:8000{finding['docs']}" in text, name
    comparison = json.loads((ANSWERS / "comparison.json").read_text())
    assert comparison["before"]["id"] == answer["id"]
    assert comparison["before"]["verdict"] == "unhealthy"
    assert comparison["after"]["verdict"] == "healthy"


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
