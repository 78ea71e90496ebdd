"""Real samples, given weights and what is retained: real server, worker, child and files."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from safetensors.numpy import save

SPEC: dict[str, Any] = {
    "kind": "spec",
    "input": {"shape": [6]},
    "layers": [
        {"name": "fc", "type": "Linear", "args": {"out_features": 16}},
        {"name": "norm", "type": "BatchNorm1d"},
        {"name": "act", "type": "ReLU"},
        {"name": "head", "type": "Linear", "args": {"out_features": 3}},
    ],
}
QUICK = {"seeds": 1, "batches": 2, "batch_size": 16, "trial_steps": 0}


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(time.time_ns())  # no two tests send the same file


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def renumbered(model: Path, random: np.random.Generator) -> bytes:
    """The same model in a file that nobody has sent before."""
    file = io.BytesIO()
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(file, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename.endswith("/data/0"):
                content = content[:-4] + random.normal(size=1).astype(np.float32).tobytes()
            new.writestr(member, content)
    return file.getvalue()


def stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "artifacts").rglob("*") if path.is_file()}


def post(server: str, request: dict[str, Any], wait: int = 60, **files: Any) -> httpx2.Response:
    url = f"{server}/v1/analyses?wait={wait}"
    if not files:
        return httpx2.post(url, json=request, timeout=wait + 10)
    return httpx2.post(url, data={"request": json.dumps(request)}, files=files, timeout=wait + 10)


def put(server: str, content: bytes) -> str:
    return str(httpx2.put(f"{server}/v1/artifacts", content=content, timeout=30).json()["id"])


def test_model_and_data_in_one_form_need_no_inputs_and_leave_no_bytes(
    server: str, models: Path, data_folder: Path, random: np.random.Generator
) -> None:
    before = stored(data_folder)
    x = random.normal(size=(40, 3, 32, 32)).astype(np.float32)
    batch = npz(x=x, y=random.integers(0, 10, 40))
    model = renumbered(models / "healthy.pt", random)
    request = {"probe": QUICK, "retain": "statistics"}
    answer = post(server, request, model=("net.pt", model), data=("batch.npz", batch))
    told = answer.json()
    assert (answer.status_code, told["status"]) == (200, "succeeded"), told
    assert told["probe"]["data"].startswith("sha256:")
    assert told["probe"]["loss"] == "cross_entropy"
    assert stored(data_folder) == before
    assert httpx2.get(f"{server}/v1/analyses/{told['id']}").json() == told
    again = {"model": {"kind": "artifact", "id": f"sha256:{told['model']['sha256']}"}}
    assert post(server, again).json()["code"] == "artifact_not_found"


def test_a_spec_with_weights_is_measured_with_them(
    server: str, random: np.random.Generator
) -> None:
    weights = {
        "fc.weight": np.full((16, 6), 0.5, np.float32),
        "fc.bias": random.normal(size=16).astype(np.float32),
        "norm.weight": np.ones(16, np.float32),
        "norm.bias": np.zeros(16, np.float32),
        "head.weight": np.full((3, 16), 0.25, np.float32),
        "head.bias": np.zeros(3, np.float32),
    }
    model = {**SPEC, "weights": put(server, save(weights))}
    told = post(server, {"model": model, "probe": QUICK}).json()
    assert told["status"] == "succeeded", told
    layers = {layer["name"]: layer for layer in told["diagnosis"]["layers"]}
    rms = {one["name"]: one["rms"] for layer in layers.values() for one in layer["parameters"]}
    assert rms["fc.weight"] == pytest.approx(0.5)
    assert rms["head.weight"] == pytest.approx(0.25)

    turned = put(server, save(weights | {"fc.weight": np.ones((6, 16), np.float32)}))
    refused = post(server, {"model": {**SPEC, "weights": turned}})
    assert (refused.status_code, refused.json()["code"]) == (422, "shape_mismatch")
    assert "fc.weight is [6, 16], not [16, 6]" in refused.json()["detail"]
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/model/weights"]


def test_evaluation_mode_and_data_for_a_spec(server: str, random: np.random.Generator) -> None:
    data = put(server, save({"x": random.normal(size=(40, 6)).astype(np.float32)}))
    request = {"model": SPEC, "probe": {**QUICK, "data": data, "mode": "eval"}}
    told = post(server, request).json()
    assert (told["status"], told["probe"]["mode"]) == ("succeeded", "eval"), told


def test_data_of_another_shape_is_refused_and_leaves_no_bytes(
    server: str, data_folder: Path, random: np.random.Generator
) -> None:
    before = stored(data_folder)
    request = {"model": SPEC, "retain": "statistics"}
    batch = npz(x=random.normal(size=(40, 7)).astype(np.float32))
    answer = post(server, request, data=("batch.npz", batch))
    assert (answer.status_code, answer.json()["code"]) == (422, "shape_mismatch")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/probe/data"]
    assert stored(data_folder) == before


def test_a_cancelled_analysis_leaves_no_bytes(
    server: str, data_folder: Path, random: np.random.Generator
) -> None:
    before = stored(data_folder)
    batch = npz(x=random.normal(size=(4000, 6)).astype(np.float32))
    probe = {"seeds": 32, "batches": 64, "trial_steps": 10_000, "budget_seconds": 300}
    request = {"model": SPEC, "retain": "statistics", "probe": probe}
    address = post(server, request, wait=0, data=("batch.npz", batch)).headers["location"]
    assert stored(data_folder) != before
    assert httpx2.delete(address).json()["status"] == "cancelled"
    assert stored(data_folder) == before
    assert httpx2.get(address).json()["status"] == "cancelled"


def test_what_retains_nothing_is_gone_once_read(
    server: str, data_folder: Path, random: np.random.Generator
) -> None:
    before = stored(data_folder)
    batch = npz(x=random.normal(size=(40, 6)).astype(np.float32))
    request = {"model": SPEC, "retain": "nothing", "probe": QUICK}
    told = post(server, request, data=("batch.npz", batch)).json()
    assert told["status"] == "succeeded", told
    assert stored(data_folder) == before
    deadline = time.monotonic() + 10
    address = f"{server}/v1/analyses/{told['id']}/layers"
    while httpx2.get(address).status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.01)
