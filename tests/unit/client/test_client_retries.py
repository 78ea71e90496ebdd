"""When a call is made again, and after how long."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from graddx import Busy, Client, ConnectionFailed, GraddxError, InvalidRequest, ServerError
from tests.unit.client.scripted_server import HANG_UP, Reply, ScriptedServer, problem

DONE = {"id": "a1", "status": "succeeded"}
QUEUED = Reply(202, {"id": "a1", "status": "queued"})
SPEC = {"input": {"shape": [4]}, "layers": [{"type": "ReLU"}]}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def test_nobody_listens(pauses: list[float]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(ConnectionFailed) as raised:
        client.submit(SPEC)
    assert raised.value.url == url
    assert "refused" in raised.value.reason
    assert len(pauses) == 4
    for index, pause in enumerate(pauses):
        assert 0.125 * 2**index <= pause <= 0.25 * 2**index


def test_pauses_differ_between_clients(pauses: list[float]) -> None:
    for _ in range(2):
        with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(ConnectionFailed):
            client.get("a1")
    assert pauses[:4] != pauses[4:]


def test_no_retries(pauses: list[float]) -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}", retries=0) as client,
        pytest.raises(ConnectionFailed),
    ):
        client.get("a1")
    assert pauses == []


@pytest.mark.parametrize("code", ["queue_full", "rate_limited"])
def test_a_busy_server_is_asked_again(
    server: ScriptedServer, client: Client, pauses: list[float], code: str
) -> None:
    server.replies = [problem(503 if code == "queue_full" else 429, code, after="5"), QUEUED]
    assert client.submit(SPEC).id == "a1"
    assert [call.method for call in server.calls] == ["POST", "POST"]
    assert server.calls[0].body == server.calls[1].body
    assert pauses == [5.0]


def test_retry_after_can_be_a_date(
    server: ScriptedServer, client: Client, pauses: list[float]
) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.replies = [problem(429, "rate_limited", after=at), QUEUED]
    client.submit(SPEC)
    assert 25 < pauses[0] <= 30


def test_a_busy_server_is_not_asked_for_ever(
    server: ScriptedServer, client: Client, pauses: list[float]
) -> None:
    server.replies = [problem(503, "queue_full", after="1")]
    with pytest.raises(Busy) as raised:
        client.submit(SPEC)
    assert (raised.value.code, raised.value.retry_after) == ("queue_full", 1.0)
    assert len(server.calls) == 5
    assert pauses[:3] == [1.0, 1.0, 1.0]
    assert pauses[3] >= 1.0


def test_a_server_that_asks_for_an_hour_is_not_waited_for(
    server: ScriptedServer, client: Client, pauses: list[float]
) -> None:
    server.replies = [problem(429, "rate_limited", after="3600")]
    with pytest.raises(Busy):
        client.get("a1")
    assert len(server.calls) == 1
    assert pauses == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(503, "sandbox_unavailable", ServerError), (422, "invalid_request", InvalidRequest)],
)
def test_what_will_not_change_is_not_asked_again(
    server: ScriptedServer, client: Client, status: int, code: str, kind: type[GraddxError]
) -> None:
    server.replies = [problem(status, code)]
    with pytest.raises(kind):
        client.submit(SPEC)
    assert len(server.calls) == 1


def test_a_read_without_an_answer_is_made_again(
    server: ScriptedServer, client: Client, pauses: list[float]
) -> None:
    server.replies = [HANG_UP, Reply(502, b"<html>bad gateway</html>"), Reply(200, DONE)]
    assert client.get("a1").status == "succeeded"
    assert len(server.calls) == 3


@pytest.mark.parametrize("lost", [HANG_UP, Reply(502, b"<html>bad gateway</html>")])
def test_a_post_that_may_have_arrived_is_not_made_again(
    server: ScriptedServer, client: Client, lost: object
) -> None:
    server.replies = [lost, QUEUED]
    with pytest.raises(GraddxError):
        client.submit(SPEC)
    assert len(server.calls) == 1


def test_a_delete_that_may_have_arrived_is_not_made_again(
    server: ScriptedServer, client: Client
) -> None:
    server.replies = [HANG_UP, Reply(204)]
    with pytest.raises(ConnectionFailed):
        client.delete("a1")
    assert len(server.calls) == 1


def test_a_refused_address_is_told(server: ScriptedServer, client: Client) -> None:
    server.replies = [Reply(308, None, {"Location": "https://elsewhere/v1/analyses/a1"})]
    with pytest.raises(GraddxError, match="moved to https://elsewhere"):
        client.get("a1")
