"""Same request, same seed, same engine: the same answer to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]


def answer(server: str, request: dict[str, Any]) -> dict[str, Any]:
    posted = httpx2.post(f"{server}/v1/analyses?wait=60", json=request, timeout=90)
    assert posted.status_code == 200, posted.text
    body: dict[str, Any] = posted.json()
    return body


@pytest.mark.parametrize("name", ["healthy_residual_convnet", "exploding_leaky_relu_mlp"])
def test_twice_the_same_request_is_twice_the_same_answer(server: str, name: str) -> None:
    request = {**json.loads((ROOT / f"examples/{name}.json").read_text()), "fresh": True}
    first, second = answer(server, request), answer(server, request)
    assert first["id"] != second["id"]
    for each in (first, second):  # the addresses carry the id
        (each["diagnosis"]["prescription"] or {}).pop("links", None)
    assert json.dumps(first["diagnosis"]) == json.dumps(second["diagnosis"])
    assert first["model"] == second["model"]


def test_another_seed_is_another_draw(server: str) -> None:
    request = json.loads((ROOT / "examples/healthy_mlp.json").read_text())
    drawn = [
        answer(server, {**request, "probe": {"seed": seed, "trial_steps": 0}})["diagnosis"]
        for seed in (0, 1000)
    ]
    assert drawn[0]["verdict"] == drawn[1]["verdict"] == "healthy"
    assert drawn[0]["model"]["loss_at_start"] != drawn[1]["model"]["loss_at_start"]
