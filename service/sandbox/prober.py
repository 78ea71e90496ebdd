"""`ports.Prober` behind the wall: one confined, single-use child per session."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from service.domain.errors import (
    ArtifactNotFound,
    DeviceUnavailable,
    InternalError,
    ProbeCrashed,
    SandboxUnavailable,
)
from service.domain.memory import comes_near
from service.domain.model_source import (
    EXPORTED_PROGRAM,
    ArtifactSource,
    ModelSource,
    SpecSource,
)
from service.domain.probe_plan import ProbePlan
from service.ports import ProbeSession
from service.probe_protocol import Open
from service.sandbox.confine import Descriptors
from service.sandbox.control import Closed, Start
from service.sandbox.gpu import environment
from service.sandbox.launcher import Child, Zygote, ZygoteFailed
from service.sandbox.limits import ENVIRONMENT, Limits
from service.sandbox.session import ChildSession

CPU = "cpu"


class ZygoteProber:
    """Opens sessions, one at a time; keeps one zygote warm and replaces it when it is worn."""

    def __init__(
        self,
        limits: Limits,
        entry: str,
        warm_up: str,
        open_artifact: Callable[[str], Path],
        *,
        rehearse: str | None = None,
        warm_up_symbolic: str | None = None,
        threads: int = 1,
        run_uploads_unsealed: bool = False,
        gpu: bool = False,
        gpu_memory_fraction: float = 0.9,
        run_uploads_on_gpu: bool = False,
    ) -> None:
        """entry, warm_up: "package.module:function", run in the child and in the zygote; rehearse:
        likewise, run in the next child while it waits; warm_up_symbolic: likewise, run in a
        zygote before its first child that needs it (`_further`).

        open_artifact: artifact id → its file, or ArtifactNotFound. threads: what a child may
        raise, cores ÷ workers. run_uploads_unsealed: on a host that cannot seal, run uploaded
        models all the same; they can then read and write whatever the worker can. gpu: this worker
        has one; gpu_memory_fraction: what a child may take of its memory, 0 … 1;
        run_uploads_on_gpu: uploaded models too, in a seal that is not verified.
        """
        self._limits = limits
        self._start = Start(entry=entry, warm_up=warm_up, limits=limits, rehearse=rehearse)
        self._warm_up_symbolic = warm_up_symbolic
        self._open_artifact = open_artifact
        self._threads = threads
        self._run_uploads_unsealed = run_uploads_unsealed
        self._gpu = gpu
        self._gpu_memory_fraction = gpu_memory_fraction
        self._run_uploads_on_gpu = run_uploads_on_gpu
        self._zygote: Zygote | None = None
        self._jobs = 0
        self._turn = threading.Lock()
        self._aborting = threading.Lock()
        self._opening = False
        self._abort_wanted = False
        self._session: ChildSession | None = None
        self._dying: Child | None = None
        """Killed; it is seen buried before the next one begins."""

    def start(self) -> None:
        """Warm up now rather than with the first session. Raises InternalError."""
        with self._turn:
            self._warm_zygote()

    def prepare(self, source: ModelSource, plan: ProbePlan) -> None:
        """Warm up for this model now rather than when it is opened. Raises InternalError,
        DeviceUnavailable; RuntimeError while a session is open."""
        with self._one_at_a_time():
            self._warm_zygote(self._further(source, plan))

    @contextlib.contextmanager
    def open(
        self,
        source: ModelSource,
        plan: ProbePlan,
        tell: Callable[[float], None] = lambda _: None,
    ) -> Iterator[ProbeSession]:
        """Load the model in a fresh child. `tell`: told how much of an ask is done, 0 … 1.

        Raises ProbeFailure, SandboxUnavailable, ArtifactNotFound; RuntimeError while another
        session is open.
        """
        with self._one_at_a_time(), contextlib.ExitStack() as stack:
            self._expect_abort(True)
            stack.callback(self._expect_abort, False)
            device = self._device(source, plan)
            session = self._begin(source, plan, stack, tell, gpu=device != CPU)
            weights = self._attached(source.weights_id if isinstance(source, SpecSource) else None)
            data = self._attached(plan.data)
            opening = Open(
                plan=plan,
                architecture=source.architecture if isinstance(source, SpecSource) else None,
                format=source.format if isinstance(source, ArtifactSource) else "spec",
                threads=self._threads,
                memory_mb=self._limits.memory_mb,
                device=device,
                memory_fraction=self._gpu_memory_fraction,
                weights_bytes=sum(path.stat().st_size for path in weights),
                data_bytes=sum(path.stat().st_size for path in data),
            )
            session.start(opening, weights + data)
            yield session

    def abort(self) -> None:
        """End the open session's child at once, from any thread; nothing open: nothing happens.

        The session's ask under way, or the opening, raises ProbeCrashed.
        """
        with self._aborting:
            self._abort_wanted = self._opening
            if self._session is not None:
                self._session.abort()

    def close(self) -> None:
        """End the zygote, and with it a session's child that is open in another thread."""
        self.abort()
        with self._turn:
            self._see_buried()
            self._drop_zygote()

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("one session at a time")
        try:
            yield
        finally:
            self._turn.release()

    def _device(self, source: ModelSource, plan: ProbePlan) -> str:
        """Where the child computes. Raises DeviceUnavailable."""
        may = self._gpu and (isinstance(source, SpecSource) or self._run_uploads_on_gpu)
        if plan.device == "auto":
            return "cuda" if may else CPU
        if plan.device != CPU and not may:
            here = "runs no uploaded model on its GPU" if self._gpu else "has no GPU"
            raise DeviceUnavailable(f"probe.device is {plan.device!r} and this worker {here}")
        return plan.device

    def _further(self, source: ModelSource, plan: ProbePlan) -> str | None:
        """What else is to be warm: an exported program's sizes are expressions, and those of a spec
        that comes near the memory it may take (of a GPU, which is not known here, any spec)."""
        if isinstance(source, ArtifactSource):
            symbolic = source.format == EXPORTED_PROGRAM
        else:
            on_gpu = self._device(source, plan) != CPU
            symbolic = on_gpu or comes_near(plan, source.architecture, self._limits.memory_mb)
        return self._warm_up_symbolic if symbolic else None

    def _begin(
        self,
        source: ModelSource,
        plan: ProbePlan,
        stack: contextlib.ExitStack,
        tell: Callable[[float], None],
        *,
        gpu: bool,
    ) -> ChildSession:
        """Fork and connect; whatever is opened is closed with the stack."""
        model = self._model(source, stack)
        output = stack.enter_context(_output_file())
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        further = self._further(source, plan)
        with theirs:
            child = self._fork(Descriptors(theirs.fileno(), output, model), further, gpu=gpu)
        stack.callback(self._finish, child)
        session = ChildSession(child, ours, output, self._limits, tell)
        self._attach(session)
        return session

    def _attached(self, artifact_id: str | None) -> list[Path]:
        if artifact_id is None:
            return []
        path = self._open_artifact(artifact_id)
        if not path.exists():
            raise ArtifactNotFound(f"the file of {artifact_id} is gone")
        return [path]

    def _model(self, source: ModelSource, stack: contextlib.ExitStack) -> int | None:
        if isinstance(source, SpecSource):
            return None
        unsealable = self._warm_zygote().unsealable
        if unsealable is not None and not self._run_uploads_unsealed:
            raise SandboxUnavailable(f"this host cannot seal a probe: {unsealable}")
        try:
            return stack.enter_context(self._open_artifact(source.artifact_id).open("rb")).fileno()
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"the file of {source.artifact_id} is gone") from error

    def _fork(self, descriptors: Descriptors, further: str | None, *, gpu: bool) -> Child:
        """A zygote that died since the last job is replaced; one that dies twice is a fault."""
        try:
            return self._warm_zygote(further).fork(descriptors, gpu=gpu)
        except ZygoteFailed:
            self._drop_zygote()
        try:
            return self._warm_zygote(further).fork(descriptors, gpu=gpu)
        except ZygoteFailed as error:
            self._drop_zygote()
            raise InternalError(f"the probe's process could not be forked: {error}") from error

    def _warm_zygote(self, further: str | None = None) -> Zygote:
        """`further`: what else it has to have run. Raises InternalError."""
        self._see_buried()
        if self._zygote is not None and self._worn(self._zygote):
            self._drop_zygote()
        try:
            if self._zygote is None:
                given = ENVIRONMENT | (environment() if self._gpu else {})
                self._zygote = Zygote(self._start, given)
            if further is not None:
                self._zygote.warm_up(further)
        except ZygoteFailed as error:
            self._drop_zygote()
            raise InternalError(f"the probe's zygote did not start: {error}") from error
        return self._zygote

    def _worn(self, zygote: Zygote) -> bool:
        """Used up, grown, or dead."""
        try:
            grown_mb = zygote.grown_mb()
        except ZygoteFailed:
            return True
        return (
            self._jobs >= self._limits.jobs_per_zygote or grown_mb > self._limits.zygote_growth_mb
        )

    def _drop_zygote(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
        self._zygote = None
        self._jobs = 0

    def _finish(self, child: Child) -> None:
        """End the child, whatever state it is in."""
        with self._aborting:
            self._session = None
        self._jobs += 1
        child.kill()
        self._dying = child  # to give back its memory takes as long as a small analysis

    def _see_buried(self) -> None:
        """The last child; a zygote that cannot bury it goes with it."""
        if self._dying is None:
            return
        dying, self._dying = self._dying, None
        try:
            dying.wait(self._limits.answer_seconds)
        except (Closed, TimeoutError):
            self._drop_zygote()
        dying.close()

    def _expect_abort(self, expected: bool) -> None:
        with self._aborting:
            self._opening = expected
            self._abort_wanted = False

    def _attach(self, session: ChildSession) -> None:
        with self._aborting:
            if self._abort_wanted:
                raise ProbeCrashed("the probe was aborted")
            self._session = session


@contextlib.contextmanager
def _output_file() -> Iterator[int]:
    """A file without a name, gone with the session."""
    with tempfile.TemporaryFile() as file:
        yield file.fileno()
