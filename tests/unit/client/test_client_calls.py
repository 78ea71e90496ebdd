"""What each method sends, and what it makes of the answer."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from graddx import (
    AccessDenied,
    AnalysisCancelled,
    AnalysisFailed,
    ApiError,
    Busy,
    Client,
    ConnectionFailed,
    ExportFailed,
    Forbidden,
    InvalidInput,
    NotFinished,
    QueueFull,
    RateLimited,
    ServerError,
    StorageFull,
    Unauthorized,
    UnknownLayerType,
)
from tests.unit.client.scripted_server import HANG_UP, Reply, ScriptedServer, problem

SPEC = {"input": {"shape": [4]}, "layers": [{"type": "ReLU"}]}
QUEUED = Reply(202, {"id": "a1", "status": "queued"})
RUNNING = Reply(202, {"id": "a1", "status": "running", "stage": "probe"})
DONE = Reply(
    200,
    {"id": "a1", "status": "succeeded", "passed": True, "diagnosis": {"verdict": "healthy"}},
)


def posted(server: ScriptedServer) -> Any:
    (call,) = (call for call in server.calls if call.method == "POST")
    assert call.headers["Content-Type"] == "application/json"
    return call.json


def test_only_what_was_said_is_sent(server: ScriptedServer, client: Client) -> None:
    server.replies = [QUEUED]
    client.submit(SPEC)
    assert posted(server) == {"model": {"kind": "spec", **SPEC}}


def test_everything_can_be_said(server: ScriptedServer, client: Client) -> None:
    server.replies = [QUEUED]
    options: dict[str, Any] = {
        "probe": {"seeds": 2},
        "labels": {"branch": "main"},
        "allowed_changes": ["initializer"],
        "ignore": [{"code": "dead_units"}],
        "fail_on": "warning",
        "retain": "statistics",
        "fresh": True,
    }
    client.submit(SPEC, **options)
    assert posted(server) == {"model": {"kind": "spec", **SPEC}, **options}


def test_a_whole_request_is_completed(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    server.replies = [QUEUED]
    request = {
        "model": {"kind": "spec", **SPEC},
        "probe": {"seeds": 2, "batches": 2},
        "labels": {"a": "1", "b": "2"},
        "ignore": [{"code": "dead_units"}],
        "fail_on": "never",
    }
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    client.submit(
        file,
        probe={"seeds": 5},
        labels={"b": "3"},
        ignore=[{"code": "rank_collapse"}],
        fail_on="error",
    )
    assert posted(server) == {
        "model": request["model"],
        "probe": {"seeds": 5, "batches": 2},
        "labels": {"a": "1", "b": "3"},
        "ignore": [{"code": "dead_units"}, {"code": "rank_collapse"}],
        "fail_on": "error",
    }


def test_a_wrong_request_is_left_to_the_server(server: ScriptedServer, client: Client) -> None:
    server.replies = [QUEUED]
    client.submit({"model": {}, "probe": 3, "ignore": 4}, probe={"seeds": 1}, ignore=[])
    assert posted(server) == {"model": {}, "probe": {"seeds": 1}, "ignore": []}


def test_a_file_is_stored_first(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    server.replies = [Reply(201, {"id": "sha256:ab", "size": 3}), QUEUED]
    file = tmp_path / "net.pt"
    file.write_bytes(b"\x00\x01\x02" * 100_000)
    client.submit(file)
    put, post = server.calls
    assert (put.method, put.path) == ("PUT", "/v1/artifacts")
    assert put.headers["Content-Length"] == "300000"
    assert hashlib.sha256(put.body).digest() == hashlib.sha256(file.read_bytes()).digest()
    assert post.json == {"model": {"kind": "artifact", "id": "sha256:ab"}}


def test_data_and_weights_are_stored_first(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    server.replies = [Reply(201, {"id": "sha256:aa"}), Reply(201, {"id": "sha256:bb"}), QUEUED]
    batch, weights = tmp_path / "batch.npz", tmp_path / "net.safetensors"
    batch.write_bytes(b"batch")
    weights.write_bytes(b"weights")
    client.submit(SPEC, data=batch, weights=weights, probe={"seeds": 1})
    first, second, post = server.calls
    assert (first.body, second.body) == (b"weights", b"batch")
    assert post.json == {
        "model": {"kind": "spec", **SPEC, "weights": "sha256:aa"},
        "probe": {"seeds": 1, "data": "sha256:bb"},
    }


def test_weights_go_with_a_spec(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    file.write_bytes(b"model")
    with pytest.raises(InvalidInput, match="weights go with a spec"):
        client.submit(file, weights=file)
    with pytest.raises(InvalidInput, match="no object in the request"):
        client.submit({"model": 3}, weights=file)


def test_an_upload_that_broke_is_sent_whole_again(
    server: ScriptedServer, client: Client, tmp_path: Path, pauses: list[float]
) -> None:
    server.replies = [problem(503, "queue_full"), Reply(201, {"id": "sha256:ab"})]
    file = tmp_path / "net.pt"
    file.write_bytes(b"abc" * 1000)
    client.put_artifact(file)
    assert [len(call.body) for call in server.calls] == [3000, 3000]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("net.json", '{"input": ', "not valid JSON"),
        ("net.json", "[1]", "must hold a JSON object"),
        ("net.json", '{"layer": []}', 'neither a spec ("input" and "layers") nor a request'),
        ("net.txt", ' {"layer": []}', "neither a spec"),
    ],
)
def test_files_that_cannot_be_sent(
    client: Client, tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(InvalidInput) as raised:
        client.submit(file)
    assert str(file) in str(raised.value)
    assert complaint in str(raised.value)


def test_things_that_are_no_model(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        client.submit(tmp_path / "net.pt")
    with pytest.raises(InvalidInput, match="is not a file"):
        client.submit(tmp_path)
    with pytest.raises(InvalidInput, match=r"not builtins\.int"):
        client.submit(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        client.submit({"input": {"shape": [float("nan")]}, "layers": []})
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        client.submit({"input": object(), "layers": []})
    assert issubclass(ExportFailed, InvalidInput)


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1:8000", "ftp://x", "", "http://"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not an address"):
        Client(url)


def test_an_address_may_have_a_path(server: ScriptedServer) -> None:
    server.replies = [DONE]
    with Client(f"{server.url}/graddx/") as client:
        client.get("a1")
        assert client.address("a1") == f"{server.url}/graddx/v1/analyses/a1"
    assert server.calls[0].path == "/graddx/v1/analyses/a1"


def test_the_api_key_is_sent_only_when_given(
    server: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies = [DONE]
    client.get("a1")
    with Client(server.url, "gdx_1_secret") as known:
        known.get("a1")
    monkeypatch.setenv("GRADDX_API_KEY", "gdx_2_secret\n")
    for given in (None, "gdx_1_secret"):
        with Client(server.url, api_key=given) as known:
            known.get("a1")
    sent = [call.headers.get("Authorization") for call in server.calls]
    assert sent == [
        None,
        "Bearer gdx_1_secret",
        "Bearer gdx_2_secret",
        "Bearer gdx_1_secret",
    ]
    assert server.calls[1].headers["User-Agent"].startswith("graddx/")


@pytest.mark.parametrize("key", ["gdx_1 secret", "gdx_1_sécret", "a\nb"])
def test_a_key_that_cannot_be_sent_is_not_told(key: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Client("http://127.0.0.1:1", key)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "code", "kind", "above"),
    [
        (401, "unauthorized", Unauthorized, AccessDenied),
        (403, "forbidden", Forbidden, AccessDenied),
        (429, "rate_limited", RateLimited, Busy),
        (503, "queue_full", QueueFull, Busy),
        (409, "idempotency_in_flight", Busy, ApiError),
        (507, "storage_full", StorageFull, ServerError),
    ],
)
def test_refusals_have_exceptions_of_their_own(
    server: ScriptedServer, status: int, code: str, kind: type[ApiError], above: type[ApiError]
) -> None:
    server.replies = [problem(status, code, after="7")]
    with Client(server.url, retries=0) as client, pytest.raises(kind) as raised:
        client.get("a1")
    assert isinstance(raised.value, above)
    assert (raised.value.code, raised.value.status) == (code, status)
    assert raised.value.retry_after == 7.0


def test_ids_cannot_reach_other_addresses(server: ScriptedServer, client: Client) -> None:
    server.replies = [DONE]
    client.get("../artifacts/x?y")
    assert server.calls[0].path == "/v1/analyses/..%2Fartifacts%2Fx%3Fy"


def test_waiting_asks_until_it_is_final(server: ScriptedServer, client: Client) -> None:
    server.replies = [problem(404, "not_found"), QUEUED, RUNNING, DONE]
    seen: list[str | None] = []
    analysis = client.wait("a1", progress=lambda one: seen.append(one.stage))
    assert (analysis.passed, analysis.diagnosis.verdict) == (True, "healthy")
    assert seen == [None, "probe"]
    asked = ["/v1/analyses/a1/events", *["/v1/analyses/a1?wait=1.0"] * 3]
    assert [call.path for call in server.calls] == asked


def test_two_are_compared(server: ScriptedServer, client: Client) -> None:
    change = {"statistic": "gradient.gain", "before": 1.0, "after": None, "changed": True}
    layer = {"name": "fc1", "presence": "both", "changed": True, "statistics": [change]}
    sides = {"before": {"id": "a1"}, "after": {"id": "a2"}}
    server.replies = [Reply(200, {**sides, "layers": [layer]})]
    found = client.compare("a1", "a/2")
    assert server.calls[0].path == "/v1/analyses/a1/compare/a%2F2"
    assert found.layers[0].statistics[0].after is None


def test_a_history_goes_through_its_pages(server: ScriptedServer, client: Client) -> None:
    server.replies = [
        Reply(200, {"items": [{"analysis": "a2", "value": 1.0}], "next_cursor": "c"}),
        Reply(200, {"items": [{"analysis": "a1", "value": None}], "next_cursor": None}),
    ]
    found = client.layer_history("fc1", "gradient.gain", labels={"branch": "main"})
    assert [one.analysis for one in found] == ["a2", "a1"]
    assert "label=branch%3Amain" in server.calls[0].path
    assert "cursor=c" in server.calls[1].path


EVENTS = b"""retry: 1000
event: progress
data: {"status":"queued","stage":null,"queue_position":2,"percent":0}
id: 0

: ping

event: news
data: of another kind

data: {"status":"running",
data: "stage":"probe","percent":15,"more":1}

event: end
data: {"status":"succeeded","percent":100,"passed":true,"verdict":"healthy"}

"""


def test_waiting_follows_events(server: ScriptedServer, client: Client) -> None:
    server.replies = [Reply(200, EVENTS, {"Content-Type": "text/event-stream"}), DONE]
    seen: list[tuple[str | None, int | None]] = []
    analysis = client.wait("a1", progress=lambda one: seen.append((one.stage, one.percent)))
    assert analysis.passed
    assert seen == [(None, 0), ("probe", 15)]
    assert [call.path.partition("?")[0] for call in server.calls] == [
        "/v1/analyses/a1/events",
        "/v1/analyses/a1",
    ]
    assert server.calls[0].headers["Accept"] == "text/event-stream"


def test_events_end_with_the_analysis(server: ScriptedServer, client: Client) -> None:
    server.replies = [Reply(200, EVENTS)]
    *_, last = client.events("a1")
    assert (last.final, last.passed, last.verdict) == (True, True, "healthy")


@pytest.mark.parametrize("broken", [HANG_UP, Reply(200, EVENTS[:150]), Reply(200, b"<html>")])
def test_waiting_asks_where_events_do_not_come_through(
    server: ScriptedServer, client: Client, broken: object
) -> None:
    server.replies = [broken, RUNNING, DONE]
    seen: list[str] = []
    assert client.wait("a1", progress=lambda one: seen.append(one.status)).passed
    assert seen[-1] == "running"


def test_a_short_wait_is_kept(server: ScriptedServer, client: Client) -> None:
    server.replies = [RUNNING]
    began = time.monotonic()
    with pytest.raises(NotFinished):
        client.wait("a1", 0.2, progress=lambda _: None)
    assert time.monotonic() - began < 2
    assert not any("events" in call.path for call in server.calls)


def test_waiting_ends(server: ScriptedServer, client: Client) -> None:
    server.replies = [RUNNING]
    with pytest.raises(NotFinished, match=r"not finished after 0\.05 s \(probe\)") as raised:
        client.wait("a1", 0.05)
    assert raised.value.analysis.id == "a1"


def test_waiting_ends_although_the_server_is_lost(server: ScriptedServer, client: Client) -> None:
    server.replies = [HANG_UP]
    began = time.monotonic()
    with pytest.raises(ConnectionFailed):
        client.wait("a1", 1.0)
    assert time.monotonic() - began < 1.5
    assert len(server.calls) >= 2


def test_a_failed_analysis_is_raised(server: ScriptedServer, client: Client) -> None:
    error = {"code": "model_raised", "title": "The model raised", "detail": "ValueError: boom"}
    server.replies = [QUEUED, Reply(200, {"id": "a1", "status": "failed", "error": error})]
    with pytest.raises(AnalysisFailed, match="The model raised: ValueError: boom") as raised:
        client.analyze(SPEC)
    assert raised.value.code == "model_raised"
    assert raised.value.analysis.status == "failed"


def test_a_cancelled_analysis_is_raised(server: ScriptedServer, client: Client) -> None:
    server.replies = [QUEUED, Reply(200, {"id": "a1", "status": "cancelled"})]
    with pytest.raises(AnalysisCancelled) as raised:
        client.analyze(SPEC)
    assert raised.value.code == "cancelled"


def test_a_final_analysis_is_not_cancelled(server: ScriptedServer, client: Client) -> None:
    server.replies = [DONE]
    assert client.cancel("a1").status == "succeeded"
    assert [call.method for call in server.calls] == ["GET"]


def test_a_running_analysis_is_cancelled(server: ScriptedServer, client: Client) -> None:
    server.replies = [RUNNING, Reply(202, {"id": "a1", "status": "cancelled"})]
    assert client.cancel("a1").status == "cancelled"
    assert [call.method for call in server.calls] == ["GET", "DELETE"]


@pytest.mark.parametrize(
    ("replies", "calls"),
    [([Reply(204)], 1), ([Reply(202, {"id": "a1", "status": "cancelled"}), Reply(204)], 2)],
)
def test_a_deleted_analysis_is_gone_whatever_it_did(
    server: ScriptedServer, client: Client, replies: list[object], calls: int
) -> None:
    server.replies = [*replies]
    client.delete("a1")
    assert [call.method for call in server.calls] == ["DELETE"] * calls


def test_a_list_is_read_page_after_page(server: ScriptedServer, client: Client) -> None:
    def page(ids: list[str], cursor: str | None) -> Reply:
        items = [{"id": one, "status": "queued", "newer": one} for one in ids]
        return Reply(200, {"items": items, "next_cursor": cursor})

    server.replies = [page(["a3", "a2"], "c1"), page(["a1"], None)]
    found = client.list(verdict="healthy", labels={"branch": "main", "ci": "yes"})
    assert next(found).id == "a3"
    assert len(server.calls) == 1
    rest = list(found)
    assert [one.id for one in rest] == ["a2", "a1"]
    assert rest[1].raw["newer"] == "a1"
    first, second = (call.path for call in server.calls)
    assert first == "/v1/analyses?verdict=healthy&label=branch%3Amain&label=ci%3Ayes&limit=100"
    assert second == f"{first}&cursor=c1"


def test_faults_come_with_their_pointers(server: ScriptedServer, client: Client) -> None:
    fault = {"pointer": "/model/layers/0/type", "parameter": None, "detail": "no such type"}
    server.replies = [problem(422, "unknown_layer_type", errors=[fault], request_id="r1")]
    with pytest.raises(UnknownLayerType) as raised:
        client.submit(SPEC)
    error = raised.value
    assert (error.status, error.code, error.request_id) == (422, "unknown_layer_type", "r1")
    assert (error.title, error.detail) == ("A title", "A detail.")
    assert [(one.pointer, one.detail) for one in error.errors] == [
        ("/model/layers/0/type", "no such type")
    ]
