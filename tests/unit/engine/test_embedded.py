"""The dispatcher's pipe, and how it looks after processes that die."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from service.dispatch.embedded import FIRST_PAUSE_SECONDS, EmbeddedDispatcher
from service.dispatch.wakeup import Waiting, Wakeups

DIES_AT_ONCE = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(1)"
NEVER_LISTENS = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "open(sys.argv[1], 'a').write('x'); time.sleep(60)"
)


def test_every_wake_up_reaches_one_waiting_worker_once() -> None:
    wakeups = Wakeups()
    first, second = Waiting(wakeups.reading), Waiting(os.dup(wakeups.reading))
    wakeups.send()
    began = time.monotonic()
    assert first(5.0)
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    assert second(0.2)
    assert time.monotonic() - began >= 0.2
    wakeups.close()
    assert not second(5.0)


def test_more_wake_ups_than_a_pipe_holds_block_nobody() -> None:
    wakeups = Wakeups()
    for _ in range(70_000):
        wakeups.send()
    assert Waiting(wakeups.reading)(0.0)
    wakeups.close()


def test_a_wake_up_after_the_end_is_nothing() -> None:
    wakeups = Wakeups()
    wakeups.close()
    wakeups.send()


def test_a_worker_that_dies_is_started_again_ever_more_slowly(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    dispatcher = EmbeddedDispatcher(1, {}, [sys.executable, "-c", DIES_AT_ONCE, str(starts)])
    dispatcher.start()
    time.sleep(6 * FIRST_PAUSE_SECONDS)
    dispatcher.stop()
    # At 0, 1 and 3 pauses; the next would be at 7.
    assert 2 <= len(starts.read_text()) <= 3
    assert dispatcher.workers_alive() == 0


def test_a_worker_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dispatch.embedded.STOP_SECONDS", 0.2)
    started = tmp_path / "started"
    dispatcher = EmbeddedDispatcher(2, {}, [sys.executable, "-c", NEVER_LISTENS, str(started)])
    dispatcher.start()
    while not started.exists() or len(started.read_text()) < 2:
        time.sleep(0.01)
    assert dispatcher.workers_alive() == 2
    dispatcher.stop()
    assert dispatcher.workers_alive() == 0


def test_workers_get_the_environment(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    tell = "import os, sys; open(sys.argv[1], 'w').write(os.environ['GRADDX_PORT'])"
    dispatcher = EmbeddedDispatcher(
        1, {"GRADDX_PORT": "1234"}, [sys.executable, "-c", tell, str(seen)]
    )
    dispatcher.start()
    while not seen.exists() or not seen.read_text():
        time.sleep(0.01)
    dispatcher.stop()
    assert seen.read_text() == "1234"
