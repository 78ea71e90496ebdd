"""Health, metrics, catalogue and documentation."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.diagnosis.detectors import ALL_DETECTORS
from service.domain.layers import LAYER_TYPES
from service.recommendation import ALL_REMEDIES
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine

ROOT = Path(__file__).parents[3]


def test_liveness_and_readiness(client: TestClient, engine: FakeEngine) -> None:
    engine.ready = False
    assert client.get("/livez").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["workers"]) == (503, False)
    engine.ready = True
    assert client.get("/readyz").status_code == 200


def test_metrics_count_requests_by_route_and_show_the_queue(client: TestClient) -> None:
    client.post("/v1/analyses", json=body())
    client.get("/v1/analyses/a1")
    text = client.get("/metrics").text
    assert 'handler="/v1/analyses/{analysis_id}"' in text
    assert 'graddx_queue_depth{queue="cpu"} 3.0' in text
    assert 'graddx_queue_depth{queue="gpu"} 0.0' in text
    assert 'graddx_in_flight{queue="cpu"} 2.0' in text
    oldest = re.search(r'graddx_queue_oldest_seconds{queue="cpu"} ([\d.]+)', text)
    assert oldest is not None
    assert 60 <= float(oldest[1]) < 120


def test_metrics_tell_what_workers_did(client: TestClient) -> None:
    text = client.get("/metrics").text
    assert 'graddx_worker_up{device="cpu",queues="cpu",worker="host:1"} 1.0' in text
    assert 'graddx_worker_up{device="NVIDIA H100",queues="cpu gpu",worker="host:2"} 0.0' in text
    assert 'graddx_worker_memory_mb{worker="host:1"} 4096.0' in text
    assert 'graddx_attempts_total{code="",outcome="succeeded",worker="host:1"} 5.0' in text
    failed = 'graddx_attempts_total{code="probe_timeout",outcome="failed",worker="host:1"} 1.0'
    assert failed in text
    assert 'graddx_reruns_total{worker="host:1"} 2.0' in text
    assert 'graddx_probe_seconds_bucket{le="0.5",worker="host:1"} 0.0' in text
    assert 'graddx_probe_seconds_bucket{le="+Inf",worker="host:1"} 6.0' in text
    assert 'graddx_probe_seconds_sum{worker="host:1"} 4.5' in text


def test_a_call_is_known_by_its_id_to_the_engine(client: TestClient, engine: FakeEngine) -> None:
    answer = client.post("/v1/analyses", json=body())
    assert engine.request_ids == [answer.headers["x-request-id"][:64]]


def test_the_catalogue_is_the_registries(client: TestClient) -> None:
    got = client.get("/v1/catalog").json()
    assert [one["code"] for one in got["detectors"]] == [one.code for one in ALL_DETECTORS]
    assert [one["kind"] for one in got["remedies"]] == [one.kind for one in ALL_REMEDIES]
    assert [one["name"] for one in got["layer_types"]] == list(LAYER_TYPES)
    assert "ReLU" in got["activations"]
    assert "Linear" not in got["activations"]
    assert all(one["docs"] for one in got["detectors"] + got["remedies"])
    linear = next(one for one in got["layer_types"] if one["name"] == "Linear")
    inferred = {one["name"]: one["inferred"] for one in linear["arguments"]}
    assert inferred == {"in_features": True, "out_features": False, "bias": False}
    names = {one["name"] for one in got["initializers"]}
    assert names >= {"kaiming_normal_", "orthogonal_", "forget_gate_"}


def test_docs_need_no_other_server(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 3
    for address in addresses:
        assert address.startswith("/docs/assets/")
        assert len(client.get(address).content) > 1000


def test_the_policy_of_docs_allows_its_own_script_alone(client: TestClient) -> None:
    page = client.get("/docs")
    script = re.search(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy


@pytest.mark.parametrize("module", ["api.__main__", "service.bootstrap"])
def test_the_front_door_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}, api.app, service.config\n"
        "app = api.app.create_app(None, service.config.Settings())\n"
        "app.openapi()\n"
        "heavy = {'torch', 'numpy', 'scipy', 'jinja2', 'markdown_it', 'vl_convert'}\n"
        "print(*heavy & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
