"""POST /v1/analyses: what is understood, what is refused, and how it is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.domain.analysis import Analysis
from service.domain.errors import QueueFull
from service.domain.findings import Severity
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.domain.request import ALL_KINDS, AnalysisRequest, IgnoreRule, ModelRequest
from tests.unit.api.bodies import INPUTS, SPEC, body, pointers
from tests.unit.api.fake_engine import FakeEngine

FILE = b"PK\x03\x04 not really a model"
BATCH = b"PK\x03\x04 not really a batch"
ID = "sha256:" + "0" * 64


def test_a_bare_spec_becomes_the_default_request(client: TestClient, engine: FakeEngine) -> None:
    answer = client.post("/v1/analyses", json=body())
    assert answer.status_code == 202
    assert answer.headers["location"] == "http://testserver/v1/analyses/a1"
    assert int(answer.headers["retry-after"]) > 0
    spec = {"input": SPEC["input"], "layers": SPEC["layers"]}
    assert engine.submitted == [AnalysisRequest(ModelRequest("spec", spec=spec))]


def test_every_field_reaches_the_engine(client: TestClient, engine: FakeEngine) -> None:
    client.post(
        "/v1/analyses",
        json=body(
            probe={
                "inputs": [{"shape": [64], "dtype": "float32", "distribution": "uniform"}],
                "data": ID,
                "batch_size": 8,
                "batches": 2,
                "seeds": 1,
                "loss": "mse",
                "precision": "float64",
                "optimizer": {"name": "sgd", "lr": 1, "momentum": 0.9, "clip_norm": None},
                "trial_steps": 0,
                "mode": "eval",
                "budget_seconds": 5,
                "device": "cpu",
                "seed": 7,
            },
            allowed_changes=["initializer", "clipping"],
            ignore=[{"code": "dead_units", "layers": "fc*", "reason": "meant"}],
            retain="statistics",
            fresh=True,
            fail_on="never",
            baseline={"label": "branch:main"},
            labels={"branch": "main:1"},
        ),
    )
    (request,) = engine.submitted
    assert request.probe == ProbePlan(
        inputs=(InputPlan((64,), "float32", "uniform"),),
        batch_size=8,
        batches=2,
        seeds=1,
        loss="mse",
        precision="float64",
        optimizer=OptimizerPlan("sgd", 1.0, 0.9),
        trial_steps=0,
        mode="eval",
        data=ID,
        budget_seconds=5.0,
        device="cpu",
        seed=7,
    )
    assert request.allowed_changes == ("initializer", "clipping")
    assert request.ignore == (IgnoreRule("dead_units", "fc*", "meant"),)
    assert request.fail_on is None
    assert request.labels == {"branch": "main:1"}
    assert request.retain == "statistics"


def test_weights_are_beside_the_spec_not_in_it(client: TestClient, engine: FakeEngine) -> None:
    for weights in (ID, None):
        client.post("/v1/analyses", json=body(model={**SPEC, "weights": weights}))
    spec = {"input": SPEC["input"], "layers": SPEC["layers"]}
    assert [request.model for request in engine.submitted] == [
        ModelRequest("spec", spec=spec, weights_id=ID),
        ModelRequest("spec", spec=spec),
    ]


def test_faults_of_spec_and_weights_are_told_together(client: TestClient) -> None:
    model = {**SPEC, "layers": [{"type": "Linea"}], "weights": "net.safetensors"}
    assert pointers(client.post("/v1/analyses", json=body(model=model))) == {
        "/model/layers/0/type",
        "/model/weights",
    }


def test_explicit_defaults_are_the_defaults(client: TestClient, engine: FakeEngine) -> None:
    client.post("/v1/analyses", json=body())
    explicit = body(
        probe={"batch_size": "auto", "batches": 4, "seeds": 3, "loss": "auto", "optimizer": None},
        allowed_changes=list(ALL_KINDS),
        fail_on="error",
        labels={},
    )
    client.post("/v1/analyses", json=explicit)
    assert engine.submitted[0] == engine.submitted[1]
    assert engine.submitted[0].fail_on is Severity.ERROR


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"probe": {"batches": 0}}, "/probe/batches"),
        ({"probe": {"batches": 4.5}}, "/probe/batches"),
        ({"probe": {"batches": "4"}}, "/probe/batches"),
        ({"probe": {"batches": True}}, "/probe/batches"),
        ({"probe": {"batch_size": "big"}}, "/probe/batch_size"),
        ({"probe": {"batch_size": None}}, "/probe/batch_size"),
        ({"probe": {"seeds": None}}, "/probe/seeds"),
        ({"probe": {"loss": "hinge"}}, "/probe/loss"),
        ({"probe": {"optimizer": {"name": "sgd"}}}, "/probe/optimizer/lr"),
        ({"probe": {"optimizer": {"name": "lion", "lr": 1}}}, "/probe/optimizer/name"),
        ({"probe": {"budget_seconds": 0}}, "/probe/budget_seconds"),
        ({"probe": {"seed": -1}}, "/probe/seed"),
        ({"probe": {"seed": 2**63}}, "/probe/seed"),
        ({"probe": {"inputs": [{"shape": [0]}]}}, "/probe/inputs/0/shape/0"),
        ({"probe": {"inputs": [{"shape": [5], "dtype": "int64"}]}}, "/probe/inputs/0/high"),
        ({"probe": {"inputs": [{"shape": [5], "high": 3}]}}, "/probe/inputs/0/high"),
        ({"probe": {"batchs": 4}}, "/probe/batchs"),
        ({"probe": []}, "/probe"),
        ({"probe": {"data": "batch.npz"}}, "/probe/data"),
        ({"probe": {"mode": "test"}}, "/probe/mode"),
        ({"retain": "model"}, "/retain"),
        ({"retain": None}, "/retain"),
        ({"fail_on": "info"}, "/fail_on"),
        ({"fail_on": None}, "/fail_on"),
        ({"allowed_changes": ["initializer", "prayer"]}, "/allowed_changes/1"),
        ({"ignore": [{"layers": "*"}]}, "/ignore/0/code"),
        ({"labels": {"a:b": "c"}}, "/labels/a:b"),
        ({"labels": {"a": 1}}, "/labels/a"),
        ({"labels": {"a/b~c": 1}}, "/labels/a~1b~0c"),
        ({"labels": {"a": "b\0"}}, "/labels/a"),
        ({"nonsense": 1}, "/nonsense"),
        ({"model": None}, "/model"),
        ({"model": {"kind": "onnx"}}, "/model/kind"),
        ({"model": {"kind": ["spec"]}}, "/model/kind"),
        ({"model": {"kind": "artifact"}}, "/model/id"),
        ({"model": {"kind": "artifact", "id": "net.pt"}}, "/model/id"),
        ({"model": {"kind": "artifact", "id": "sha256:" + "0" * 64, "spec": 1}}, "/model/spec"),
        ({"model": {"kind": "artifact", "id": ID, "weights": ID}}, "/model/weights"),
        ({"model": {**SPEC, "weights": "sha256:"}}, "/model/weights"),
        ({"model": {**SPEC, "weights": 1}}, "/model/weights"),
        ({"model": {**SPEC, "id": "x"}}, "/model/id"),
        ({"model": {**SPEC, "layers": []}}, "/model/layers"),
        ({"model": {**SPEC, "layers": [{"type": "Linear", "arg": {}}]}}, "/model/layers/0/arg"),
        ({"model": {**SPEC, "layers": [{"type": "Linea"}]}}, "/model/layers/0/type"),
    ],
)
def test_a_bad_value_is_named_by_pointer(
    client: TestClient, engine: FakeEngine, change: dict[str, Any], pointer: str
) -> None:
    answer = client.post("/v1/analyses", json=body(**change))
    assert answer.status_code == 422
    assert pointer in pointers(answer)
    assert engine.submitted == []


def test_all_faults_are_told_at_once(client: TestClient) -> None:
    layers = [{"type": "Linear"}, {"type": "Relu"}]
    answer = client.post(
        "/v1/analyses",
        json={
            "model": {"kind": "spec", "input": {"shape": [4]}, "layers": layers},
            "probe": {"batches": 0, "seeds": 0},
            "nonsense": 1,
        },
    )
    assert answer.json()["code"] == "invalid_request"
    assert pointers(answer) == {
        "/probe/batches",
        "/probe/seeds",
        "/nonsense",
        "/model/layers/0/args/out_features",
        "/model/layers/1/type",
    }


def test_the_engines_codes_come_through(client: TestClient) -> None:
    unknown = client.post("/v1/analyses", json=body(model={**SPEC, "layers": [{"type": "Linea"}]}))
    assert unknown.json()["code"] == "unknown_layer_type"
    wrong = {"name": "fc3", "type": "Linear", "args": {"in_features": 7, "out_features": 2}}
    model = {**SPEC, "layers": [*SPEC["layers"], wrong]}
    misfit = client.post("/v1/analyses", json=body(model=model))
    assert (misfit.status_code, misfit.json()["code"]) == (422, "shape_mismatch")
    assert pointers(misfit) == {"/model/layers/3/args/in_features"}


@pytest.mark.parametrize(
    "precision", ["float32", "float64", "bfloat16", "float16", "pure_bfloat16", "pure_float16"]
)
def test_every_precision_is_taken(client: TestClient, engine: FakeEngine, precision: str) -> None:
    answer = client.post("/v1/analyses", json=body(probe={"precision": precision}))
    assert answer.status_code in (200, 202)
    (submitted,) = engine.submitted
    assert submitted.probe.precision == precision
    wrong = client.post("/v1/analyses", json=body(probe={"precision": "half"}))
    assert (wrong.status_code, pointers(wrong)) == (422, {"/probe/precision"})


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (
            {"probe": {"inputs": [{"shape": [4], "dtype": "float16"}]}},
            "/probe/inputs/0/dtype",
        ),
    ],
)
def test_what_is_not_built_is_refused_not_ignored(
    client: TestClient, engine: FakeEngine, change: dict[str, Any], pointer: str
) -> None:
    answer = client.post("/v1/analyses", json=body(**change))
    assert answer.status_code == 422
    assert answer.json()["title"] == "Not yet supported"
    assert pointers(answer) == {pointer}
    assert "not yet supported" in answer.json()["detail"]
    assert "not yet supported" in answer.json()["errors"][0]["detail"]
    assert engine.submitted == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"probe": NaN}',
        '{"probe": {"budget_seconds": Infinity}}',
        '{"probe": {"budget_seconds": 1e999}}',
        '{"probe": {"seed": 1' + "0" * 5000 + "}}",
        '{"labels": {"a": "\\ud800"}}',
        '{"labels": {"\\ud800": "a"}}',
        "[" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"model": {"kind": "spec", "layers": ' + "[" * 200 + "]" * 200 + "}}",
    ],
)
def test_what_is_not_plain_json_is_422(client: TestClient, text: str) -> None:
    answer = client.post("/v1/analyses", content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_bytes_that_are_not_utf8_are_422(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/analyses", content=b'{"model": "\xff"}', headers=headers)
    assert answer.status_code == 422


def test_many_faults_are_cut_short(client: TestClient) -> None:
    answer = client.post("/v1/analyses", json=body(ignore=[{"code": 1}] * 500))
    assert 0 < len(answer.json()["errors"]) <= 100


def test_the_last_of_two_equal_names_counts(client: TestClient, engine: FakeEngine) -> None:
    text = json.dumps(body())[:-1] + ', "fail_on": "error", "fail_on": "warning"}'
    headers = {"content-type": "application/json; charset=utf-8"}
    assert client.post("/v1/analyses", content=text, headers=headers).status_code == 202
    assert engine.submitted[0].fail_on is Severity.WARNING


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_content_types_are_415(client: TestClient, kind: str) -> None:
    answer = client.post("/v1/analyses", content=b"{}", headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_form_stores_the_file_and_submits_it(client: TestClient, engine: FakeEngine) -> None:
    answer = client.post(
        "/v1/analyses",
        files={"model": ("net.pt", FILE)},
        data={"request": json.dumps({"probe": INPUTS, "labels": {"a": "b"}})},
    )
    assert answer.status_code == 202
    (request,) = engine.submitted
    (stored,) = engine.files.values()
    assert stored.size == len(FILE)
    assert request.model == ModelRequest("artifact", artifact_id=stored.id)
    assert request.probe.inputs == (InputPlan((64,)),)
    assert request.labels == {"a": "b"}


def test_the_request_part_may_be_missing_or_a_file(client: TestClient, engine: FakeEngine) -> None:
    client.post("/v1/analyses", files={"model": ("net.pt", FILE)})
    part = ("request.json", json.dumps({"fail_on": "warning"}).encode())
    client.post("/v1/analyses", files={"model": ("net.pt", FILE), "request": part})
    assert [one.fail_on for one in engine.submitted] == [Severity.ERROR, Severity.WARNING]


def test_a_form_without_file_takes_the_model_of_the_request(
    client: TestClient, engine: FakeEngine
) -> None:
    part = (None, json.dumps(body()))
    assert client.post("/v1/analyses", files={"request": part}).status_code == 202
    assert engine.submitted[0].model.kind == "spec"


@pytest.mark.parametrize(
    ("files", "pointer"),
    [
        ({"model": ("net.pt", FILE), "request": (None, json.dumps(body()))}, "/model"),
        ({"model": (None, "net.pt")}, "/model"),
        ({"request": (None, "{}")}, "/model"),
        ({"model": ("net.pt", FILE), "request": (None, '{"probe": {"seed": -1}}')}, "/probe/seed"),
        ({"model": ("net.pt", FILE), "request": (None, "{")}, ""),
        ({"model": ("net.pt", FILE), "data": (None, "x.npz")}, "/data"),
        (
            {
                "data": ("x.npz", BATCH),
                "request": (None, json.dumps(body(probe={"data": ID}))),
            },
            "/probe/data",
        ),
        (
            {"data": ("x.npz", BATCH), "request": (None, json.dumps(body(probe={"seed": -1})))},
            "/probe/seed",
        ),
        ([("data", ("x.npz", BATCH)), ("data", ("x.npz", FILE))], "/data"),
        ({"model": ("net.pt", FILE), "extra": (None, "1")}, "/extra"),
        ([("model", ("net.pt", FILE)), ("model", ("net.pt", FILE))], "/model"),
    ],
)
def test_a_bad_form_is_422_and_stores_nothing(
    client: TestClient, engine: FakeEngine, files: Any, pointer: str
) -> None:
    answer = client.post("/v1/analyses", files=files)
    assert answer.status_code == 422
    assert pointers(answer) == {pointer}
    assert engine.files == {}


def test_a_form_may_carry_data_too(client: TestClient, engine: FakeEngine) -> None:
    files: Any = {"model": ("net.pt", FILE), "data": ("x.npz", BATCH)}
    assert client.post("/v1/analyses", files=files).status_code == 202
    model, data = engine.files
    assert engine.submitted[0].model == ModelRequest("artifact", artifact_id=model)
    assert engine.submitted[0].probe.data == data
    assert engine.files[data].size == len(BATCH)


def test_a_form_may_carry_data_for_a_spec(client: TestClient, engine: FakeEngine) -> None:
    files: Any = {"data": ("x.npz", BATCH), "request": (None, json.dumps(body()))}
    assert client.post("/v1/analyses", files=files).status_code == 202
    assert engine.submitted[0].model.kind == "spec"
    assert [engine.submitted[0].probe.data] == [*engine.files]


@pytest.mark.parametrize(("retain", "left"), [("all", 2), ("statistics", 0), ("nothing", 0)])
def test_a_refused_form_leaves_only_what_was_to_be_kept(
    client: TestClient, engine: FakeEngine, retain: str, left: int
) -> None:
    engine.error = QueueFull("later")
    files: Any = {"model": ("net.pt", FILE), "data": ("x.npz", BATCH)}
    answer = client.post("/v1/analyses", files=files, data={"request": f'{{"retain": "{retain}"}}'})
    assert answer.status_code == 503
    assert len(engine.files) == left


def test_a_file_that_another_call_deleted_meanwhile_is_stored_again(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, losses = engine.submit, 2

    def lose(request: AnalysisRequest, **rest: Any) -> Analysis:
        nonlocal losses
        if losses:
            losses -= 1
            engine.files.pop(request.model.artifact_id or "")
        return submit(request, **rest)

    monkeypatch.setattr(engine, "submit", lose)
    files: Any = {"model": ("net.pt", FILE), "data": ("x.npz", BATCH)}
    assert client.post("/v1/analyses", files=files).status_code == 202
    assert sorted(one.size for one in engine.files.values()) == sorted([len(FILE), len(BATCH)])
    losses = 100
    assert client.post("/v1/analyses", files=files).status_code == 404


def test_a_broken_form_is_422(client: TestClient) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = client.post("/v1/analyses", content=b"no", headers={"content-type": kind})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_an_unknown_artifact_is_404(client: TestClient) -> None:
    model = {"kind": "artifact", "id": "sha256:" + "0" * 64}
    answer = client.post("/v1/analyses", json={"model": model, "probe": INPUTS})
    assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")


def test_an_idempotency_key_goes_to_the_engine(client: TestClient, engine: FakeEngine) -> None:
    headers = {"idempotency-key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    first, again = (client.post("/v1/analyses", json=body(), headers=headers) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert [*engine.once] == [headers["idempotency-key"]]
    assert len(engine.submitted) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "k\xfc".encode("latin-1")])
def test_an_idempotency_key_that_is_none_is_422(
    client: TestClient, engine: FakeEngine, key: str | bytes
) -> None:
    raw = key if isinstance(key, bytes) else key.encode()
    answer = client.post("/v1/analyses", json=body(), headers={b"idempotency-key": raw})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"
    assert engine.submitted == []


@pytest.mark.parametrize(("retain", "left"), [("all", 1), ("statistics", 0)])
def test_files_of_a_repeated_form_are_kept_only_where_said(
    client: TestClient, engine: FakeEngine, retain: str, left: int
) -> None:
    files: Any = {"model": ("net.pt", FILE)}
    said = {"request": f'{{"retain": "{retain}"}}'}
    key = {"idempotency-key": "k"}
    client.post("/v1/analyses", files=files, data=said, headers=key)
    engine.files.clear()  # as the first one ended
    client.post("/v1/analyses", files=files, data=said, headers=key)
    assert len(engine.files) == left


def test_forms_that_there_are_not_are_406(client: TestClient, engine: FakeEngine) -> None:
    answer = client.post("/v1/analyses", json=body(), headers={"accept": "application/pdf"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert "text/html" in answer.json()["detail"]
    assert engine.submitted == []
