"""What /docs shows: a request of every kind of model, and a problem of every code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from api.error_handlers import problem
from api.schemas.problems import GateAnalysisFailed, GateFailed, GateNotFinished, ProblemFault
from api.schemas.responses import FailureOut
from service.domain.errors import GraddxError

EXAMPLES = Path(__file__).parent.parent / "examples"
"""Requests anyone can post."""
FILES = EXAMPLES / "files"
"""What some of them speak of, written by examples/make_files.py."""

_ID = "01a1f968-dee0-73ba-aa23-b4ba0078eb83"
_REPORT = f"http://127.0.0.1:8000/v1/analyses/{_ID}"
_DETAILS = {
    "invalid_request": "probe.batches: must be between 1 and 64",
    "unknown_layer_type": "no layer type ReLu; did you mean ReLU?",
    "shape_mismatch": "layer `fc2` takes 128 features but `fc1` gives 64",
    "unsupported_artifact": "this file is npz, not a model",
    "artifact_rejected": "code/__torch__.py, line 3: the operator aten::save is not allowed",
    "idempotency_conflict": "this Idempotency-Key was used for another request",
    "unauthorized": "send an API key: Authorization: Bearer gdx_…",
    "forbidden": "this API key may read only",
    "analysis_not_found": f"no analysis {_ID}",
    "not_found": "there is nothing at /v1/analysis",
    "method_not_allowed": "PUT is not allowed here",
    "change_refused": "this change cannot be made to this model",
    "artifact_not_found": f"no artifact sha256:{'0' * 64}",
    "no_prescription": "the model is healthy: there is nothing to repair",
    "weights_not_kept": "the request says retain: statistics",
    "not_acceptable": "this call gives application/json",
    "idempotency_in_flight": "the first request with this Idempotency-Key is still being stored",
    "analysis_unfinished": "the analysis is still running; it goes on",
    "spec_only": "an uploaded model has no spec",
    "payload_too_large": "the body is larger than 1024 MiB",
    "unsupported_media_type": "send application/json or multipart/form-data",
    "gate_failed": "Gradients vanish: fc1 receives 3.5e-17 of the gradient at head.",
    "rate_limited": "more than 600 calls a minute",
    "internal_error": "The server failed; its log has the request id.",
    "analysis_failed": "The model raised: ValueError: this model does not work",
    "queue_full": "1000 analyses wait already",
    "sandbox_unavailable": "uploaded models are refused on this host: no Landlock",
    "not_finished": f"The analysis is still running; it goes on, ask again at {_REPORT}",
    "storage_full": "the disk is full",
}
"""An occurrence of each code; what the server says is more exact."""
_TITLES = {
    "gate_failed": "Gate failed",
    "analysis_failed": "Analysis failed",
    "not_found": "Not Found",
    "method_not_allowed": "Method Not Allowed",
    "not_finished": "Not finished",
}
"""Of the codes that no exception has."""
_POINTERS = {
    "unknown_layer_type": "/model/layers/3/type",
    "shape_mismatch": "/model/layers/4/args/in_features",
    "unsupported_artifact": "/model/id",
    "artifact_rejected": "/model/id",
    "artifact_not_found": None,
    "invalid_request": "/probe/batches",
}
"""Where the fault is, of codes that name a place in the body."""


def problem_examples(codes: Iterable[str]) -> dict[str, Any]:
    """By code, for `examples` of an answer."""
    return {code: {"summary": _title(code), "value": _problem(code)} for code in codes}


def request_examples() -> dict[str, Any]:
    """By name, for `examples` of `POST /v1/analyses`."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(EXAMPLES.glob("*.json"))}
    made = files | {"keras": _KERAS}
    examples = {
        name: {"summary": name.replace("_", " "), "value": one} for name, one in made.items()
    }
    return examples | dict(_with_stored_files())


def _problem(code: str) -> dict[str, Any]:
    pointer = _POINTERS.get(code)
    faults = [ProblemFault(pointer=pointer, detail=_DETAILS[code])] if pointer else []
    about = dict(problem(code, _title(code), _DETAILS[code], faults))
    about["request_id"] = "5f0c6b1e8f8a4c7b9f3a0d2e4b6c8a10"
    match code:
        case "gate_failed":
            told = GateFailed(
                **about, id=_ID, verdict="unhealthy", summary=_DETAILS[code], findings=(),
                report=_REPORT,
            )  # fmt: skip
            return told.model_dump(mode="json")
        case "not_finished":
            return GateNotFinished(**about, id=_ID, report=_REPORT).model_dump(mode="json")
        case "analysis_failed":
            failure = FailureOut(
                code="model_raised",
                title="The model raised",
                detail="ValueError: this model does not work",
            )
            failed = GateAnalysisFailed(**about, id=_ID, failure=failure, report=_REPORT)
            return failed.model_dump(mode="json")
    return {**about, "errors": [one.model_dump(mode="json") for one in faults]}


def _title(code: str) -> str:
    found = (one.title for one in _errors(GraddxError) if one.code == code)
    return _TITLES.get(code) or next(found)


def _errors(kind: type[GraddxError]) -> Iterator[type[GraddxError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _errors(one)


_KERAS: dict[str, Any] = {
    "model": {
        "kind": "keras",
        "config": {
            "class_name": "Sequential",
            "config": {
                "name": "mlp",
                "layers": [
                    {
                        "class_name": "InputLayer",
                        "config": {"name": "x", "batch_shape": [None, 64]},
                    },
                    {
                        "class_name": "Dense",
                        "config": {"name": "hidden", "units": 64, "activation": "relu"},
                    },
                    {"class_name": "Dense", "config": {"name": "head", "units": 10}},
                ],
            },
        },
    },
    "labels": {"example": "keras"},
}


_SMALL: dict[str, Any] = {
    "kind": "spec",
    "input": {"shape": [8]},
    "layers": [
        {"name": "fc1", "type": "Linear", "args": {"out_features": 16}},
        {"name": "act", "type": "ReLU"},
        {"name": "head", "type": "Linear", "args": {"out_features": 4}},
    ],
}
"""The model of examples/files/ as a spec."""


def form_examples() -> dict[str, Any]:
    """By name, for `examples` of the form of `POST /v1/analyses`; files are those of
    examples/files/."""
    inputs = {"probe": {"inputs": [{"shape": [8]}]}, "labels": {"example": "form"}}
    return {
        "torchscript": {
            "summary": "A model file, and the rest as JSON",
            "value": {"model": "net.pt", "request": inputs},
        },
        "torchscript_and_real_samples": {
            "summary": "A model file, real samples, and the rest as JSON",
            "value": {"model": "net.pt", "data": "samples.npz", "request": {"fail_on": "warning"}},
        },
    }


def stored_id(name: str) -> str:
    """What `PUT /v1/artifacts` answers for a file of examples/files/."""
    return f"sha256:{hashlib.sha256((FILES / name).read_bytes()).hexdigest()}"


def _with_stored_files() -> Iterator[tuple[str, Any]]:
    """Of files that `PUT /v1/artifacts` was sent before."""
    model, data, weights = map(stored_id, ("net.pt", "samples.npz", "weights.safetensors"))
    stored: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "stored_torchscript": (
            ("net.pt",),
            {
                "model": {"kind": "artifact", "id": model},
                "probe": {"inputs": [{"shape": [8]}]},
            },
        ),
        "stored_model_and_real_samples": (
            ("net.pt", "samples.npz"),
            {
                "model": {"kind": "artifact", "id": model},
                "probe": {"data": data, "mode": "as_saved"},
            },
        ),
        "spec_with_trained_weights": (
            ("weights.safetensors", "samples.npz"),
            {"model": {**_SMALL, "weights": weights}, "probe": {"data": data}},
        ),
    }
    for name, (files, value) in stored.items():
        first = " and ".join(f"examples/files/{one}" for one in files)
        told = f"{name.replace('_', ' ')} (store {first} first, with PUT /v1/artifacts)"
        yield name, {"summary": told, "value": value}
