"""The parts of /openapi.json that FastAPI cannot read off a function."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.answer_examples import show_answers
from api.doorkeeper import is_open
from api.error_handlers import STATUS
from api.openapi_examples import form_examples, problem_examples, request_examples
from api.schemas.problems import (
    MEDIA_TYPE,
    GateAnalysisFailed,
    GateFailed,
    GateNotFinished,
    Problem,
)
from api.schemas.requests import AnalysisIn, AnalysisOptions
from api.schemas.responses import ProgressOut

_GATE: dict[int, type[Problem]] = {417: GateFailed, 502: GateAnalysisFailed, 504: GateNotFinished}
_COMPONENTS: tuple[type[Problem | AnalysisOptions | ProgressOut], ...] = (
    AnalysisIn,
    AnalysisOptions,
    ProgressOut,
    Problem,
    *_GATE.values(),
)

_FILE = {
    "type": "string",
    "contentMediaType": "application/octet-stream",
    # What OpenAPI 3.0 called a file, and what generators of clients still look for.
    "format": "binary",
}

Responses = dict[int | str, dict[str, Any]]


def _reference(model: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def problems(*codes: str) -> Responses:
    """The error answers of a route, by error code."""
    by_status: dict[int, list[str]] = {}
    for code in (*codes, "internal_error"):
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        status: {
            "description": ", ".join(f"`{code}`" for code in by_status[status]),
            "content": {
                MEDIA_TYPE: {
                    "schema": _reference(_GATE.get(status, Problem)),
                    "examples": problem_examples(by_status[status]),
                }
            },
        }
        for status in sorted(by_status)
    }


def analysis_body() -> dict[str, Any]:
    """The two bodies of `POST /v1/analyses`."""
    form = {
        "type": "object",
        "properties": {
            "model": {
                **_FILE,
                "description": "TorchScript or exported program; instead of `request.model`.",
            },
            "data": {
                **_FILE,
                "description": "Real samples, .safetensors or .npz; instead of "
                "`request.probe.data`, which tells what is in it.",
            },
            "request": {
                "description": "Everything else; with `model` where no model file is sent.",
                "anyOf": [_reference(AnalysisOptions), _reference(AnalysisIn)],
            },
        },
    }
    return _body(
        {
            "application/json": {"schema": _reference(AnalysisIn)},
            "multipart/form-data": {
                "schema": form,
                "encoding": {"request": {"contentType": "application/json"}},
            },
        }
    )


def file_body() -> dict[str, Any]:
    """The two bodies of `PUT /v1/artifacts`."""
    form = {"type": "object", "properties": {"file": _FILE}, "required": ["file"]}
    return _body(
        {"application/octet-stream": {"schema": _FILE}, "multipart/form-data": {"schema": form}}
    )


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def _let_calls_be_named(document: dict[str, Any]) -> None:
    """What the outermost middleware reads of every call."""
    name = {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "description": "Your own name for this call, a UUID of version 4 (another is replaced). It "
        "comes back in the same header, in problems, and is in the server's log.",
        "schema": {"type": "string", "format": "uuid"},
    }
    for path in document["paths"].values():
        for operation in path.values():
            operation.setdefault("parameters", []).append(name)


def _put_behind_the_door(document: dict[str, Any]) -> None:
    """What the doorkeeper does to every operation that is not open."""
    document["components"]["securitySchemes"] = {
        "api_key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "gdx_<id>_<secret>",
            "description": "An API key (`python -m api keys create`). A server without any key on "
            "a loopback address takes calls without one.",
        }
    }
    guarded = [path for path in document["paths"] if not is_open(path)]
    for operation in (one for path in guarded for one in document["paths"][path].values()):
        operation["security"] = [{"api_key": []}, {}]
        refusals = problems("unauthorized", "forbidden", "rate_limited")
        for status in (401, 403, 429):
            operation["responses"].setdefault(str(status), refusals[status])


def _take_back_json(document: dict[str, Any]) -> None:
    """FastAPI says JSON of every success, also of one whose media types are told."""
    for operation in (one for path in document["paths"].values() for one in path.values()):
        for response in operation["responses"].values():
            content = response.get("content", {})
            if len(content) > 1 and not content.get("application/json", True)["schema"]:
                del content["application/json"]


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in _COMPONENTS:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        _let_calls_be_named(document)
        _put_behind_the_door(document)
        _take_back_json(document)
        show_answers(document)
        posted = document["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
        posted["application/json"]["examples"] = request_examples()
        posted["multipart/form-data"]["examples"] = form_examples()
        app.openapi_schema = document
    return app.openapi_schema
