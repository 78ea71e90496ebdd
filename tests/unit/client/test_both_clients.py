"""What the blocking and the awaited client share, and what only one of them can show."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from graddx import AsyncClient, Client, ConnectionFailed, InvalidInput, NotFinished
from graddx.transport import CHUNK
from tests.unit.client.scripted_server import HANG_UP, Reply, ScriptedServer

SPEC = {"input": {"shape": [4]}, "layers": [{"type": "ReLU"}]}
QUEUED = Reply(202, {"id": "a1", "status": "queued"})
DONE = Reply(200, {"id": "a1", "status": "succeeded", "diagnosis": {"verdict": "healthy"}})
STORED = Reply(201, {"id": "sha256:ab", "size": 3})
OWN = {"close", "url", "address"}
"""What a client says itself; the rest are operations."""


def public(kind: type) -> dict[str, Any]:
    return {name: one for name, one in vars(kind).items() if not name.startswith("_")}


def test_both_have_the_same_calls() -> None:
    blocking, awaited = public(Client), public(AsyncClient)
    assert list(blocking) == list(awaited)
    for name in blocking.keys() - OWN:
        ours, theirs = inspect.signature(blocking[name]), inspect.signature(awaited[name])
        assert ours.parameters == theirs.parameters
        assert next(iter(ours.parameters)) == "self"
        assert str(theirs.return_annotation).removeprefix("Async") == ours.return_annotation
        assert not {"Steps", "Pages"} & set(re.findall(r"\w+", str(ours)))
        assert blocking[name].__doc__ == awaited[name].__doc__ != ""


def test_an_upload_tells_how_far_it_is(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 1000
    file = tmp_path / "net.pt"
    file.write_bytes(content)
    server.replies = [STORED, QUEUED]
    told: list[tuple[int, int]] = []
    client.submit(file, sent=lambda done, total: told.append((done, total)))
    assert server.calls[0].body == content
    assert told == [
        (min(end, len(content)), len(content)) for end in range(CHUNK, len(content) + CHUNK, CHUNK)
    ]


def test_a_file_that_is_sent_again_begins_again(
    server: ScriptedServer, client: Client, tmp_path: Path, pauses: list[float]
) -> None:
    file = tmp_path / "net.pt"
    file.write_bytes(b"model")
    server.replies = [HANG_UP, STORED]
    told: list[int] = []
    client.put_artifact(file, sent=lambda done, _total: told.append(done))
    assert (told, len(pauses)) == ([5, 5], 1)


def test_a_file_that_is_not_there(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        client.put_artifact(tmp_path / "none.pt")


def test_progress_falls_back_to_asking(server: ScriptedServer, client: Client) -> None:
    """No events come through: they are asked for once, and then it is looked at."""
    server.replies = [QUEUED, HANG_UP, Reply(202, {"id": "a1", "status": "running"}), DONE]
    told: list[str] = []
    client.analyze(SPEC, progress=lambda now: told.append(now.status))
    assert told == ["running"]
    paths = [call.path.partition("?")[0] for call in server.calls]
    assert paths[1:] == ["/v1/analyses/a1/events", "/v1/analyses/a1", "/v1/analyses/a1"]


def test_progress_comes_by_events(server: ScriptedServer, client: Client) -> None:
    lines = [
        'data: {"status": "running", "stage": "probe", "percent": 15}\n\n',
        ": ping\n\n",
        'data: {"status": "succeeded", "percent": 100}\n\n',
    ]
    events = Reply(200, "".join(lines).encode(), {"Content-Type": "text/event-stream"})
    server.replies = [QUEUED, events, DONE]
    told: list[int | None] = []
    client.analyze(SPEC, progress=lambda now: told.append(now.percent))
    assert told == [15]
    server.replies = [events]
    assert [one.percent for one in client.events("a1")] == [15, 100]


def test_no_time_is_no_interruption(server: ScriptedServer, client: Client) -> None:
    """It can be waited for again, so it goes on."""
    server.replies = [QUEUED]
    with pytest.raises(NotFinished):
        client.analyze(SPEC, wait=0)
    assert [call.method for call in server.calls] == ["POST", "GET"]


def methods(server: ScriptedServer) -> list[str]:
    return [call.method for call in server.calls]


def test_ctrl_c_cancels(server: ScriptedServer) -> None:
    server.replies = [QUEUED, HANG_UP, QUEUED, Reply(202, {"id": "a1", "status": "cancelled"})]

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, Client(server.url) as client:
        patch.setattr("graddx.transport.time.sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.analyze(SPEC)
    assert methods(server) == ["POST", "GET", "GET", "DELETE"]


def test_ctrl_c_ends_although_the_server_is_gone(server: ScriptedServer) -> None:
    server.replies = [QUEUED, HANG_UP]

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, Client(server.url) as client:
        patch.setattr("graddx.transport.time.sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.analyze(SPEC)
    assert methods(server) == ["POST", "GET", "GET"]


async def _cancelled(begun: asyncio.Event, analysing: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(analysing)
    await begun.wait()
    task.cancel()
    await task


async def _timed_out(begun: asyncio.Event, analysing: Awaitable[Any]) -> None:
    async with asyncio.timeout(None) as limit:
        task = asyncio.ensure_future(begun.wait())
        task.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
        await analysing


@pytest.mark.parametrize(
    ("end", "raised"), [(_cancelled, asyncio.CancelledError), (_timed_out, TimeoutError)]
)
def test_a_cancelled_task_cancels_the_analysis(
    server: ScriptedServer,
    end: Callable[[asyncio.Event, Awaitable[Any]], Awaitable[None]],
    raised: type[BaseException],
) -> None:
    server.replies = [QUEUED, HANG_UP, QUEUED, Reply(202, {"id": "a1", "status": "cancelled"})]

    async def main() -> None:
        begun = asyncio.Event()

        async def pausing(_seconds: float) -> None:
            begun.set()
            await asyncio.sleep(60)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("graddx.async_transport._sleep", pausing)
            async with AsyncClient(server.url) as client:
                await end(begun, client.analyze(SPEC))

    with pytest.raises(raised):
        asyncio.run(main())
    assert methods(server) == ["POST", "GET", "GET", "DELETE"]


def test_many_at_a_time(server: ScriptedServer) -> None:
    """The server answers when all have asked: one after the other would never end."""
    server.replies = [DONE]
    server.gate = threading.Barrier(8, timeout=10)

    async def main() -> list[str]:
        async with AsyncClient(server.url) as client:
            found = await asyncio.gather(*(client.get("a1") for _ in range(8)))
        return [one.id for one in found]

    assert asyncio.run(main()) == ["a1"] * 8


def test_an_awaited_list_is_left_when_nobody_reads_on(server: ScriptedServer) -> None:
    page = {"items": [{"id": "a1", "status": "queued"}], "next_cursor": "more"}
    server.replies = [Reply(200, page)]

    async def main() -> str:
        async with AsyncClient(server.url) as client:
            async for one in client.list():
                return one.id
        raise AssertionError

    assert asyncio.run(main()) == "a1"
    assert len(server.calls) == 1


def test_nobody_is_there_to_be_awaited(pauses: list[float]) -> None:
    async def main() -> None:
        async with AsyncClient("http://127.0.0.1:1") as client:
            await client.get("a1")

    with pytest.raises(ConnectionFailed):
        asyncio.run(main())
    assert len(pauses) == 4
