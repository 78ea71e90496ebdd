"""The wall with real processes: good children, bad children, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from service.domain.architecture import Architecture, Sample, resolve
from service.domain.errors import (
    ArtifactNotFound,
    InternalError,
    ProbeCrashed,
    ProbeFailure,
    ProbeOutOfMemory,
    ProbeTimeout,
    ReplyTooLarge,
)
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.sandbox.limits import ENVIRONMENT, MIB, Limits
from service.sandbox.prober import ZygoteProber
from tests.integration import sandbox_children as children

CHILDREN = "tests.integration.sandbox_children"
SPEC = SpecSource(Architecture((Sample((1,)),), ()))
ROOMY = Limits(wall_seconds=30, cpu_seconds=30, memory_mb=256, output_bytes=MIB)
MODEL = b"the model's bytes"
SCRIPT = ArtifactSource("sha256:1", "torchscript")
PROGRAM = ArtifactSource("sha256:1", "exported_program")
WIDE = {"type": "Linear", "args": {"out_features": 200_000}}
LARGE = SpecSource(resolve({"input": {"shape": [8]}, "layers": [WIDE]}))
"""Comes near ROOMY's memory."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / "model.pt"
    path.write_bytes(MODEL)
    return path


@contextmanager
def prober_with(
    limits: Limits,
    artifact: Path = Path("/nowhere"),
    *,
    warm_up: str = "warm_up",
    rehearse: str | None = None,
    symbolic: str | None = None,
) -> Iterator[ZygoteProber]:
    prober = ZygoteProber(
        limits,
        f"{CHILDREN}:serve",
        f"{CHILDREN}:{warm_up}",
        lambda _: artifact,
        rehearse=rehearse and f"{CHILDREN}:{rehearse}",
        warm_up_symbolic=symbolic and f"{CHILDREN}:{symbolic}",
        run_uploads_unsealed=True,
    )
    try:
        yield prober
    finally:
        prober.close()


@pytest.fixture(scope="module")
def prober(artifact: Path) -> Iterator[ZygoteProber]:
    with prober_with(ROOMY, artifact) as prober:
        yield prober


def play(prober: ZygoteProber, manner: children.Manner, source: ModelSource = SPEC) -> str:
    """Open a session with a child of this manner; the text of its answer."""
    with prober.open(source, ProbePlan(seed=children.MANNERS.index(manner))) as session:
        return session.facts.format


def descendants(pid: int) -> set[int]:
    """Every living process below this one, but for the children that wait in zygotes."""
    found: set[int] = set()
    zygote = is_zygote(pid)
    for task in Path(f"/proc/{pid}/task").glob("*"):
        listed = ""
        # It may end between being seen and being asked.
        with suppress(FileNotFoundError, ProcessLookupError):
            listed = (task / "children").read_text()
        for child in map(int, listed.split()):
            if not (zygote and is_zygote(child)):
                found |= {child} | descendants(child)
    return found


def is_zygote(pid: int) -> bool:
    """By the name that it has and leaves to a child until that begins."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "graddx-zygote\n"
    except (FileNotFoundError, ProcessLookupError):
        return False


def only_left(before: set[int]) -> bool:
    """Whether nothing else is there, soon: a child is killed with its session and buried
    after it."""
    return eventually(lambda: descendants(os.getpid()) <= before)


def zygotes() -> set[int]:
    """The zygotes of this test process."""
    return set(filter(is_zygote, descendants(os.getpid())))


@pytest.mark.parametrize(
    ("manner", "failure"),
    [
        (children.allocates, ProbeOutOfMemory),
        (children.tells_it_ran_out, ProbeOutOfMemory),
        (children.floods, ReplyTooLarge),
        (children.segfaults, ProbeCrashed),
        (children.aborts, ProbeCrashed),
        (children.leaves_silently, ProbeCrashed),
        (children.raises, InternalError),
        (children.hangs_up, ProbeCrashed),
        (children.talks_garbage, ProbeCrashed),
        (children.talks_deep_json, ProbeCrashed),
        (children.talks_wrong_types, ProbeCrashed),
        (children.tells_an_unknown_code, ProbeCrashed),
        (children.answers_out_of_turn, ProbeCrashed),
        (children.tells_without_end, ProbeCrashed),
        (children.tells_too_much, ProbeCrashed),
        (children.tells_no_number, ProbeCrashed),
        (children.tells_at_length, ProbeCrashed),
        (children.tells_more_than_a_share, ProbeCrashed),
    ],
)
def test_a_bad_child_fails_alone(
    prober: ZygoteProber, manner: children.Manner, failure: type[ProbeFailure]
) -> None:
    prober.start()
    before = descendants(os.getpid())
    with pytest.raises(failure) as raised:
        play(prober, manner)
    assert type(raised.value) is failure
    assert only_left(before)
    assert play(prober, children.answers) == "spec"


def test_what_a_child_tells_of_its_way_only_grows(prober: ZygoteProber) -> None:
    told: list[float] = []
    plan = ProbePlan(seed=children.MANNERS.index(children.tells_how_far))
    with prober.open(SPEC, plan, told.append) as session:
        assert session.facts.format == "spec"
    assert told == [0.25, 1.0]


def test_the_signal_is_named(prober: ZygoteProber) -> None:
    with pytest.raises(ProbeCrashed, match="SIGSEGV"):
        play(prober, children.segfaults)


def test_a_child_that_the_kernel_kills_was_too_large(prober: ZygoteProber) -> None:
    prober.start()
    before = descendants(os.getpid())

    def kill() -> None:
        for child in descendants(os.getpid()) - before:
            os.kill(child, signal.SIGKILL)

    timer = threading.Timer(0.3, kill)
    timer.start()
    with pytest.raises(ProbeOutOfMemory, match="kernel"):
        play(prober, children.sleeps)
    timer.join()


def test_what_a_child_says_is_made_safe_to_show(prober: ZygoteProber) -> None:
    with pytest.raises(ProbeOutOfMemory) as raised:
        play(prober, children.tells_it_ran_out)
    assert raised.value.detail.startswith("could not allocate [31m1 TiB [0m !!!")
    assert len(raised.value.detail) == ROOMY.detail_chars


@pytest.mark.parametrize("manner", [children.sleeps, children.dribbles])
def test_the_wall_clock_ends_a_session(manner: children.Manner) -> None:
    with prober_with(replace(ROOMY, wall_seconds=2)) as prober:
        prober.start()
        before, begun = descendants(os.getpid()), time.monotonic()
        with pytest.raises(ProbeTimeout):
            play(prober, manner)
        assert time.monotonic() - begun < 10
        assert only_left(before)
        assert play(prober, children.answers) == "spec"


def test_one_wall_clock_for_all_asks() -> None:
    with (
        prober_with(replace(ROOMY, wall_seconds=2)) as prober,
        prober.open(SPEC, ProbePlan(seed=children.MANNERS.index(children.exports))) as session,
    ):
        time.sleep(2.1)
        with pytest.raises(ProbeTimeout):
            session.export(({"floats": 1},))


def test_the_cpu_limit_ends_a_child() -> None:
    with prober_with(replace(ROOMY, cpu_seconds=1)) as prober:
        with pytest.raises(ProbeTimeout, match="CPU"):
            play(prober, children.loops)
        assert play(prober, children.answers) == "spec"


def test_a_child_has_its_three_descriptors_and_nothing_else(
    prober: ZygoteProber, monkeypatch: pytest.MonkeyPatch
) -> None:
    situation = json.loads(
        play(prober, children.tells_its_situation, ArtifactSource("sha256:1", "torchscript"))
    )
    assert situation["descriptors"] == [3, 4, 5]
    assert situation["model_fd"] == 3
    assert situation["model"] == MODEL.decode()
    assert situation["core"] == 0
    assert max(situation["tasks"]) <= ROOMY.tasks
    assert situation["file_size"] == MIB


def test_a_child_leads_its_own_session(prober: ZygoteProber) -> None:
    prober.start()
    before = descendants(os.getpid())
    with prober.open(SPEC, ProbePlan()):
        (child,) = descendants(os.getpid()) - before
        assert os.getsid(child) == child


def test_a_spec_comes_without_a_model_file(prober: ZygoteProber) -> None:
    situation = json.loads(play(prober, children.tells_its_situation))
    assert situation["model_fd"] is None
    assert situation["descriptors"] == [4, 5]


def test_a_zygote_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADDX_DATABASE_URL", "postgresql://user:secret@host/db")
    with prober_with(ROOMY) as prober:
        before = zygotes()
        prober.start()
        (zygote,) = zygotes() - before
        environment = Path(f"/proc/{zygote}/environ").read_bytes()
        # GNU libc ends each of its tunables with a zero, in place.
        environment = environment.replace(b"\0glibc.", b":glibc.")
        assert sorted(filter(None, environment.split(b"\0"))) == sorted(
            f"{name}={value}".encode() for name, value in ENVIRONMENT.items()
        )
        situation = json.loads(play(prober, children.tells_its_situation))
    # The interpreter itself sets LC_CTYPE when it finds no locale (PEP 538).
    assert set(situation["environment"]) - {"LC_CTYPE"} == set(ENVIRONMENT)


def test_threads_of_a_child_end_with_it(prober: ZygoteProber) -> None:
    prober.start()
    before = descendants(os.getpid())
    assert play(prober, children.leaves_threads) == "5"
    assert only_left(before)


def test_processes_of_a_child_are_refused_or_end_with_it(prober: ZygoteProber) -> None:
    prober.start()
    before = descendants(os.getpid())
    answer = play(prober, children.forks)
    assert only_left(before)
    if answer.startswith("child"):
        assert eventually(lambda: not is_running(int(answer.split()[1])))


def test_export_brings_the_file(prober: ZygoteProber) -> None:
    plan = ProbePlan(seed=children.MANNERS.index(children.exports))
    with prober.open(SPEC, plan) as session:
        content = session.export(({"floats": 5},))
        assert session.peak_memory_mb() == 12.5
    assert content.endswith(bytes(20))
    assert len(content) > 20


@pytest.mark.parametrize("manner", [children.exports_nonsense, children.exports_less_than_it_says])
def test_a_bad_export_is_refused(prober: ZygoteProber, manner: children.Manner) -> None:
    plan = ProbePlan(seed=children.MANNERS.index(manner))
    with prober.open(SPEC, plan) as session:
        with pytest.raises(ProbeCrashed, match="exported weights"):
            session.export()
        with pytest.raises(ProbeCrashed, match="exported weights"):
            session.export()  # a failed session stays failed


def test_the_output_file_is_bounded(prober: ZygoteProber) -> None:
    plan = ProbePlan(seed=children.MANNERS.index(children.exports))
    with prober.open(SPEC, plan) as session, pytest.raises(InternalError, match="too large"):
        session.export(({"floats": MIB},))


def test_a_message_that_is_too_large_is_not_sent() -> None:
    with (
        prober_with(replace(ROOMY, ask_bytes=1000)) as prober,
        prober.open(SPEC, ProbePlan()) as session,
        pytest.raises(InternalError, match="too large"),
    ):
        session.measure(({"kind": "x" * 1000},))


def test_abort_from_another_thread_ends_the_child_at_once(prober: ZygoteProber) -> None:
    prober.start()
    before, begun = descendants(os.getpid()), time.monotonic()
    timer = threading.Timer(0.3, prober.abort)
    timer.start()
    with pytest.raises(ProbeCrashed, match="aborted"):
        play(prober, children.sleeps)
    timer.join()
    assert time.monotonic() - begun < 10
    assert only_left(before)


def test_abort_while_the_zygote_still_warms_up() -> None:
    with prober_with(ROOMY, warm_up="warm_up_slowly") as prober:
        timer = threading.Timer(0.3, prober.abort)
        timer.start()
        with pytest.raises(ProbeCrashed, match="aborted"):
            play(prober, children.answers)
        timer.join()
        assert play(prober, children.answers) == "spec"


def test_abort_with_nothing_open_harms_no_later_session(prober: ZygoteProber) -> None:
    prober.abort()
    assert play(prober, children.answers) == "spec"


def test_one_session_at_a_time(prober: ZygoteProber) -> None:
    with (
        prober.open(SPEC, ProbePlan()),
        pytest.raises(RuntimeError, match="one session"),
        prober.open(SPEC, ProbePlan()),
    ):
        pass


def test_a_dead_zygote_is_replaced() -> None:
    with prober_with(ROOMY) as prober:
        before = zygotes()
        assert play(prober, children.answers) == "spec"
        (zygote,) = zygotes() - before
        os.kill(zygote, signal.SIGKILL)
        assert play(prober, children.answers) == "spec"
        assert zygotes() - before != {zygote}


def test_a_child_that_dies_while_it_waits_is_replaced() -> None:
    with prober_with(ROOMY) as prober:
        before = zygotes()
        assert play(prober, children.answers) == "spec"
        (zygote,) = zygotes() - before
        waiting = waiting_in(zygote)
        os.kill(waiting, signal.SIGKILL)
        assert eventually(lambda: not is_running(waiting))
        assert play(prober, children.answers) == "spec"
        assert zygotes() - before == {zygote}


def test_a_child_that_waits_ends_with_its_zygote() -> None:
    with prober_with(ROOMY) as prober:
        before = zygotes()
        prober.start()
        (zygote,) = zygotes() - before
        waiting = waiting_in(zygote)
        os.kill(zygote, signal.SIGKILL)
        assert eventually(lambda: not is_running(waiting))


def test_a_child_is_new_to_every_analysis(prober: ZygoteProber) -> None:
    seen = {json.loads(play(prober, children.tells_its_situation))["pid"] for _ in range(3)}
    assert len(seen) == 3


def test_what_a_child_rehearses_is_done_before_it_is_asked() -> None:
    with prober_with(ROOMY, rehearse="rehearse") as prober:
        assert [play(prober, children.tells_what_it_rehearsed) for _ in range(2)] == ["1", "1"]


def test_a_rehearsal_that_fails_harms_nothing() -> None:
    with prober_with(ROOMY, rehearse="warm_up_that_raises") as prober:
        assert play(prober, children.answers) == "spec"


def test_a_zygote_warms_up_further_once_and_when_asked(artifact: Path) -> None:
    limits = replace(ROOMY, zygote_growth_mb=24)
    with prober_with(limits, artifact, rehearse="rehearse", symbolic="warm_up_further") as prober:
        before = zygotes()
        warm = [
            play(prober, children.tells_what_was_warm, source)
            for source in (SPEC, SCRIPT, PROGRAM, SPEC, PROGRAM)
        ]
        (zygote,) = zygotes() - before
        assert warm == ["0 1", "0 1", "1 1", "1 1", "1 1"]
        assert waiting_in(zygote)
        os.kill(zygote, signal.SIGKILL)
        assert play(prober, children.tells_what_was_warm, SCRIPT) == "0 1"


def test_a_spec_that_comes_near_its_memory_is_symbolic() -> None:
    with prober_with(ROOMY, symbolic="warm_up_further") as prober:
        assert play(prober, children.tells_what_was_warm, LARGE) == "1 0"


def test_a_session_does_not_pay_for_warming_up(artifact: Path) -> None:
    limits = replace(ROOMY, wall_seconds=0.5)
    with prober_with(limits, artifact, symbolic="warm_up_further") as prober:
        assert play(prober, children.tells_what_was_warm, PROGRAM) == "1 0"


def test_what_is_prepared_is_warm_before_it_is_opened(artifact: Path) -> None:
    with prober_with(ROOMY, artifact, symbolic="warm_up_further") as prober:
        prober.prepare(PROGRAM, ProbePlan())
        assert play(prober, children.tells_what_was_warm) == "1 0"


@pytest.mark.parametrize(
    ("symbolic", "reason"),
    [
        ("warm_up_that_raises", "no model library here"),
        ("warm_up_that_hangs", "not ready in time|died while starting"),
        ("warm_up_that_leaves_a_thread", "left 2 threads"),
    ],
)
def test_a_zygote_that_cannot_warm_up_further_says_why(
    symbolic: str, reason: str, artifact: Path
) -> None:
    before = descendants(os.getpid())
    with prober_with(replace(ROOMY, start_seconds=2), artifact, symbolic=symbolic) as prober:
        with pytest.raises(InternalError, match=reason):
            play(prober, children.answers, PROGRAM)
        assert only_left(before)
        assert play(prober, children.answers, SCRIPT) == "spec"


def waiting_in(zygote: int) -> int:
    """The next child, of which there is one. The kernel's list is incomplete while others end."""
    found: list[int] = []

    def is_listed() -> bool:
        text = Path(f"/proc/{zygote}/task/{zygote}/children").read_text()
        found[:] = [child for child in map(int, text.split()) if is_zygote(child)]
        return len(found) == 1

    assert eventually(is_listed)
    return found[0]


def test_a_zygote_killed_during_a_session_takes_the_child_along() -> None:
    with prober_with(ROOMY) as prober:
        before = zygotes()
        prober.start()
        (zygote,) = zygotes() - before
        killed: set[int] = set()

        def kill() -> None:
            killed.update({zygote}, descendants(zygote))
            os.kill(zygote, signal.SIGKILL)

        timer = threading.Timer(0.3, kill)
        timer.start()
        with pytest.raises(ProbeCrashed, match="zygote"):
            play(prober, children.sleeps)
        timer.join()
        assert len(killed) == 2
        assert eventually(lambda: not any(map(is_running, killed)))
        assert play(prober, children.answers) == "spec"


def test_a_worn_zygote_is_replaced() -> None:
    with prober_with(replace(ROOMY, jobs_per_zygote=2)) as prober:
        before, seen = zygotes(), set()
        for _ in range(4):
            play(prober, children.answers)
            (zygote,) = zygotes() - before
            seen.add(zygote)
        assert len(seen) == 2


def test_a_zygote_that_grows_is_replaced() -> None:
    limits = replace(ROOMY, zygote_growth_mb=48)
    with prober_with(limits, warm_up="warm_up_that_leaks") as prober:
        before, seen = zygotes(), []
        for _ in range(5):
            assert play(prober, children.answers) == "spec"
            (zygote,) = zygotes() - before
            seen.append(zygote)
    # Trying the seal is a fork too: a zygote is warm with 32 MiB and has 64 more after two jobs.
    assert seen == [seen[0]] * 2 + [seen[2]] * 2 + [seen[4]]
    assert len(set(seen)) == 3


def test_what_a_child_prints_goes_nowhere(prober: ZygoteProber) -> None:
    assert play(prober, children.prints) == "printed"


def test_close_leaves_nothing() -> None:
    before = descendants(os.getpid())
    with prober_with(ROOMY) as prober:
        play(prober, children.answers)
    assert only_left(before)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_leaks(prober: ZygoteProber) -> None:
    play(prober, children.answers)
    before = open_descriptors()
    for index in range(200):
        manner = children.leaves_silently if index % 10 == 0 else children.answers
        try:
            play(prober, manner, ArtifactSource("sha256:1", "torchscript"))
        except ProbeCrashed:
            assert manner is children.leaves_silently
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("warm_up", "reason", "start_seconds"),
    [
        ("warm_up_that_raises", "no model library here", 60),
        ("warm_up_that_hangs", "not ready in time|died while starting", 2),
        ("warm_up_that_leaves_a_thread", "left 2 threads", 60),
        ("no_such_function", "no_such_function", 60),
    ],
)
def test_a_zygote_that_cannot_start_says_why(warm_up: str, reason: str, start_seconds: int) -> None:
    before = descendants(os.getpid())
    with (
        prober_with(replace(ROOMY, start_seconds=start_seconds), warm_up=warm_up) as prober,
        pytest.raises(InternalError, match=reason),
    ):
        play(prober, children.answers)
    assert only_left(before)


def test_a_missing_model_file_is_told(tmp_path: Path) -> None:
    with prober_with(ROOMY, tmp_path / "gone") as prober, pytest.raises(ArtifactNotFound):
        play(prober, children.answers, ArtifactSource("sha256:1", "torchscript"))


WORKER = f"""
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.domain.architecture import Architecture, Sample
from service.domain.model_source import SpecSource
from service.domain.probe_plan import ProbePlan
prober = ZygoteProber(Limits(), "{CHILDREN}:serve", "{CHILDREN}:warm_up", None)
print("warming", flush=True)
with prober.open(SpecSource(Architecture((Sample((1,)),), ())), ProbePlan()):
    print("open", flush=True)
    input()
"""


def test_zygote_and_child_die_with_a_killed_worker() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "warming\n"
        assert worker.stdout.readline() == "open\n"
        orphans = descendants(worker.pid)
        worker.kill()
    assert len(orphans) == 2
    assert eventually(lambda: not any(map(is_running, orphans)))


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
