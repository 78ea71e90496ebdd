"""A request for 16 bits, from the wire and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]


def answer(server: str, model: dict[str, Any], **probe: Any) -> dict[str, Any]:
    request = {"model": model, "probe": {"batches": 2, "seeds": 2, "trial_steps": 0, **probe}}
    posted = httpx2.post(f"{server}/v1/analyses?wait=120", json=request, timeout=150)
    assert posted.status_code == 200, posted.text
    body: dict[str, Any] = posted.json()
    assert body["status"] == "succeeded", body["error"]
    return body


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "pure_bfloat16", "pure_float16"])
def test_what_16_bits_cost_is_in_the_answer(server: str, precision: str) -> None:
    model = json.loads((ROOT / "examples/healthy_mlp.json").read_text())["model"]
    body = answer(server, model, precision=precision)
    assert body["probe"]["precision"] == precision
    layers = body["diagnosis"]["layers"]
    assert all(layer["precision"]["underflow_fraction"] < 0.05 for layer in layers)
    assert all(layer["precision"]["activation_overflow"] == 0 for layer in layers)
    stored = [p["lost_update_fraction"] for layer in layers for p in layer["parameters"]]
    assert all((share is not None) == precision.startswith("pure_") for share in stored)
    assert any(precision in note for note in body["notes"]) or precision == "pure_bfloat16"
    wide = answer(server, model)
    assert all(layer["precision"] is None for layer in wide["diagnosis"]["layers"])
    assert body["diagnosis"]["model"]["loss_at_start"] == pytest.approx(
        wide["diagnosis"]["model"]["loss_at_start"], rel=0.02
    )


def test_an_overflow_is_told_with_the_layer_to_keep_in_float32(server: str) -> None:
    loud = {"name": "normal_", "args": {"std": 1e5}}
    layers = [
        {"name": "fc1", "type": "Linear", "args": {"out_features": 32}},
        {"type": "ReLU"},
        {"name": "fc2", "type": "Linear", "args": {"out_features": 32}, "init": {"weight": loud}},
        {"type": "LayerNorm"},
        {"name": "head", "type": "Linear", "args": {"out_features": 10}},
    ]
    model = {"kind": "spec", "input": {"shape": [64]}, "layers": layers}
    body = answer(server, model, precision="float16")
    assert body["passed"] is False
    found = {one["code"]: one for one in body["diagnosis"]["findings"]}["nonfinite_values"]
    assert "fc2 overflows float16" in found["causes"][0]
    assert list(found["evidence"]["keep_in_float32"]) == ["fc2"]
    assert answer(server, model, precision="bfloat16")["diagnosis"]["verdict"] != "unhealthy"
