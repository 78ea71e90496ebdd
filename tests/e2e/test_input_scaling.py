"""Pixels from 0 to 255: what is measured, advised and proven on the caller's own data."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

HE = {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}
SPEC: dict[str, Any] = {
    "input": {"shape": [64]},
    "layers": [
        {"name": "fc1", "type": "Linear", "args": {"out_features": 64}, "init": HE},
        {"name": "act1", "type": "ReLU"},
        {"name": "fc2", "type": "Linear", "args": {"out_features": 64}, "init": HE},
        {"name": "act2", "type": "ReLU"},
        {"name": "head", "type": "Linear", "args": {"out_features": 10}, "init": HE},
    ],
}
BRIGHTEST = 255.0


@pytest.fixture(scope="module")
def pixels() -> dict[str, np.ndarray]:
    digits = load_digits()
    x = (digits.data * BRIGHTEST / digits.data.max()).astype(np.float32)
    return {"x": x, "y": digits.target}


@pytest.fixture(scope="module")
def data(pixels: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, x=pixels["x"], y=pixels["y"])
    return file.getvalue()


def analysed(server: str, spec: dict[str, Any], data: bytes) -> dict[str, Any]:
    request = {"model": {"kind": "spec", **spec}, "probe": {"budget_seconds": 300}}
    url = f"{server}/v1/analyses?wait=120"
    form = {"request": json.dumps(request)}
    answer = httpx2.post(url, data=form, files={"data": ("pixels.npz", data)}, timeout=150)
    told: dict[str, Any] = answer.json()
    assert told["status"] == "succeeded", told
    return told


def test_unscaled_data_are_cured_and_the_effect_is_measured(
    server: str, data: bytes, pixels: dict[str, np.ndarray]
) -> None:
    found = analysed(server, SPEC, data)["diagnosis"]
    assert found["verdict"] == "at_risk"
    assert "Adam trains this, SGD does not" in found["summary"]
    assert "unscaled_input" in {one["code"] for one in found["findings"]}
    (scaling,) = (one for one in found["recommendations"] if one["kind"] == "input_scaling")
    effect = scaling["effect"]
    assert effect["verified"]
    assert {"unscaled_input", "initial_loss_off"} <= set(effect["resolved"])
    assert effect["introduced"] == []
    assert effect["before"]["loss_at_start"] > 10 * effect["after"]["loss_at_start"]
    prescription = found["prescription"]
    assert prescription["recommendations"] == [scaling["id"]]
    assert prescription["trial"]["before"]["learned_by"] == ["adam"]
    assert prescription["trial"]["after"]["learned_by"] == ["sgd", "adam"]
    repaired = prescription["patched_spec"]
    assert repaired["layers"][0]["type"] == "BatchNorm1d"
    again = analysed(server, repaired, data)["diagnosis"]
    assert (again["verdict"], again["prescription"]) == ("healthy", None)
    _the_code_makes_sgd_train(scaling["code"], pixels)


def _the_code_makes_sgd_train(code: str, pixels: dict[str, np.ndarray]) -> None:
    """A plain training, without a line of ours."""
    x, y = torch.from_numpy(pixels["x"]), torch.from_numpy(pixels["y"])
    room: dict[str, Any] = {"x": x}
    exec(compile(code, "code", "exec"), room)
    assert trained(room["x"], y) > 0.9
    assert trained(x, y) < 0.5


def trained(x: torch.Tensor, y: torch.Tensor, steps: int = 150) -> float:
    torch.manual_seed(0)
    widths = [x.shape[1], 64, 64, 10]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        layers += [linear, nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
    for step in range(steps):
        rows = torch.arange(64) + 64 * step
        loss = nn.functional.cross_entropy(net(x[rows % len(x)]), y[rows % len(x)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right: float = net(x).argmax(1).eq(y).float().mean().item()
    return right
