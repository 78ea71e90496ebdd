"""A Keras model through the whole story: translated at POST, stored, measured, advised."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.security.servers import serving


def model(units: int = 16) -> dict[str, Any]:
    layers = [
        {"class_name": "InputLayer", "config": {"name": "given", "batch_shape": [None, 8]}},
        *(
            {
                "class_name": "Dense",
                "config": {
                    "name": f"fc{index}",
                    "units": units,
                    "activation": "sigmoid",
                    "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}},
                },
            }
            for index in range(12)
        ),
        {"class_name": "Dense", "config": {"name": "head", "units": 3}},
    ]
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": layers}}


def body(config: Any) -> dict[str, Any]:
    return {"model": {"kind": "keras", "config": config}, "probe": {"trial_steps": 40}}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with contextlib.ExitStack() as stack:
        folder: Path = tmp_path_factory.mktemp("keras")
        yield stack.enter_context(serving(folder, ["-m", "api"])).url


def test_a_keras_model_is_analysed(url: str) -> None:
    answer = httpx2.post(f"{url}/v1/analyses?wait=60", json=body(model()), timeout=90)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["status"] == "succeeded"
    assert found["model"] == found["model"] | {"format": "keras", "layers": 13}
    assert found["diagnosis"]["layers"][0]["name"] == "fc0"
    assert "vanishing_gradient" in {one["code"] for one in found["diagnosis"]["findings"]}
    penalty = "kernel_regularizer L2(l2=0.01) is left out of the loss"
    assert any(f"`fc2` … (12): {penalty}" in note for note in found["notes"])
    said = "\n".join(one["code"] for one in found["diagnosis"]["recommendations"])
    assert "keras.layers.BatchNormalization(" in said
    assert "optimizer.global_clipnorm = " in said
    assert "nn." not in said
    prescription = found["diagnosis"]["prescription"]
    assert prescription["patched_spec"]["layers"]
    source = httpx2.get(f"{url}/v1/analyses/{found['id']}/prescription/code", timeout=30)
    assert "class " in source.text, source.text


def test_what_cannot_be_translated_is_422_with_a_pointer(url: str) -> None:
    answer = httpx2.post(f"{url}/v1/analyses", json=body(model(units=-1)), timeout=30)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/model/config/config/layers/1/config/units"
    assert "`fc0` (Dense)" in fault["detail"]
    assert httpx2.post(f"{url}/v1/analyses", json=body("{}"), timeout=30).status_code == 422
