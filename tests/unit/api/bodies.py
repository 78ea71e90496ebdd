"""Requests that tests post."""

from __future__ import annotations

from typing import Any

SPEC: dict[str, Any] = {
    "kind": "spec",
    "input": {"shape": [64]},
    "layers": [
        {"name": "fc1", "type": "Linear", "args": {"out_features": 32}},
        {"type": "ReLU"},
        {"name": "fc2", "type": "Linear", "args": {"out_features": 10}},
    ],
}
INPUTS = {"inputs": [{"shape": [64]}]}


def body(**more: Any) -> dict[str, Any]:
    """A good request, with some fields of the caller's."""
    return {"model": SPEC, **more}


def pointers(answer: Any) -> set[str]:
    """JSON pointers of a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    return {fault["pointer"] for fault in answer.json()["errors"]}
