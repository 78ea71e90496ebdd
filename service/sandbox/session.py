"""One conversation with one child, which is not to be believed or waited for without end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from service.domain.errors import (
    PROBE_FAILURES,
    ChangeRefused,
    InternalError,
    ProbeCrashed,
    ProbeFailure,
    ReplyTooLarge,
)
from service.domain.measurements import Measurements, ModelFacts, Trial
from service.domain.probe_plan import Look
from service.probe_protocol import (
    HEADER,
    UNDERWAY_FRAMES,
    Ask,
    BadFrame,
    Export,
    Exported,
    Failed,
    FrameTooLarge,
    Measure,
    Measured,
    Open,
    Opened,
    Refused,
    Reply,
    Told,
    Train,
    Trained,
    Underway,
    decode_reply,
    encode,
    frame_length,
)
from service.sandbox.cause_of_death import cause_of_death, out_of_wall_time
from service.sandbox.control import Closed
from service.sandbox.launcher import Child
from service.sandbox.limits import MIB, Limits
from service.sandbox.safetensors_header import NotSafetensors, check_safetensors

_Answer = TypeVar("_Answer", Opened, Measured, Trained, Exported)


class ChildSession:
    """The asks of `ports.ProbeSession`; the first failure ends the child and the session."""

    def __init__(
        self,
        child: Child,
        channel: socket.socket,
        output: int,
        limits: Limits,
        tell: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`tell`: told how much of an ask is done, 0 … 1, growing."""
        self._tell = tell
        self._child = child
        self._channel = channel
        self._output = output
        self._limits = limits
        self._deadline = time.monotonic() + limits.wall_seconds
        self._failure: ProbeFailure | None = None
        self._peak_memory_mb: float | None = None
        self._aborted = False

    def start(self, message: Open, attachments: Sequence[Path] = ()) -> None:
        """Load the model; the attachments' bytes follow the message. Raises ProbeFailure."""
        self.facts: ModelFacts = self._ask(message, Opened, attachments).facts

    def measure(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        after_steps: int = 0,
        look: Look | None = None,
        seconds: float | None = None,
    ) -> Measurements:
        """Probe the model as changed. Raises ProbeFailure."""
        ask = Measure(tuple(map(dict, changes)), after_steps, look, seconds)
        return self._ask(ask, Measured).measurements

    def trial(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Train the model as changed. Raises ProbeFailure."""
        ask = Train(tuple(map(dict, changes)), dict(rates or {}), seconds)
        return self._ask(ask, Trained).trial

    def export(self, changes: tuple[Mapping[str, Any], ...] = ()) -> bytes:
        """The weights as changed, a checked safetensors file. Raises ProbeFailure."""
        size = self._ask(Export(tuple(map(dict, changes))), Exported).size
        try:
            content = self._written(size)
            check_safetensors(content)
        except NotSafetensors as error:
            raise self._end(ProbeCrashed(f"the exported weights: {error}")) from error
        return content

    def _written(self, size: int) -> bytes:
        """The output file. By pread: the child shares the file's offset and may move it."""
        written = os.fstat(self._output).st_size
        if size != written:
            raise NotSafetensors(f"{size} bytes announced, {written} written")
        content = bytearray()
        while part := os.pread(self._output, size - len(content), len(content)):
            content += part
        return bytes(content)

    def peak_memory_mb(self) -> float | None:
        """Largest resident set the child told of, MiB."""
        return self._peak_memory_mb

    def abort(self) -> None:
        """End the child at once, from any thread; the ask under way raises ProbeCrashed."""
        self._aborted = True
        self._child.kill()

    def _ask(
        self, message: Ask, expected: type[_Answer], attachments: Sequence[Path] = ()
    ) -> _Answer:
        if self._failure is not None:
            raise self._failure
        try:
            reply = self._exchange(message, attachments)
        except ProbeFailure as failure:
            raise self._end(failure) from failure.__cause__
        if isinstance(reply, Failed):
            raise self._end(_as_failure(reply, self._limits.detail_chars))
        if isinstance(reply, Refused) and not isinstance(message, Open):
            raise ChangeRefused(_shown(reply.detail, self._limits.detail_chars))
        if not isinstance(reply, expected):
            raise self._end(ProbeCrashed("the probe's process answered out of turn"))
        self._note_memory(reply.peak_memory_mb)
        return reply

    def _note_memory(self, told: float | None) -> None:
        if told is not None:
            self._peak_memory_mb = max(told, self._peak_memory_mb or 0.0)

    def _end(self, failure: ProbeFailure) -> ProbeFailure:
        """A child that failed once is asked no more."""
        self._failure = failure
        self._child.kill()
        return failure

    def _exchange(self, message: Ask, attachments: Sequence[Path]) -> Reply:
        frame = encode(message)
        if len(frame) > self._limits.ask_bytes:
            raise InternalError(f"a message of {len(frame) // MIB} MiB to the probe is too large")
        with self._conversing():
            self._send(frame)
            for path in attachments:
                self._send_file(path)
        share = 0.0
        for _ in range(UNDERWAY_FRAMES + 1):
            told = self._told()
            if not isinstance(told, Underway):
                return told
            if told.share > share:
                share = told.share
                self._tell(share)
        raise ProbeCrashed("the probe's process told without end how far it is")

    def _told(self) -> Told:
        with self._conversing():
            length = frame_length(self._receive(HEADER.size), self._limits.reply_bytes)
            return decode_reply(self._receive(length))

    @contextmanager
    def _conversing(self) -> Iterator[None]:
        """What ends a conversation, as a ProbeFailure."""
        try:
            yield
        except TimeoutError as error:
            raise out_of_wall_time(self._limits) from error
        except FrameTooLarge as error:
            raise ReplyTooLarge(str(error)) from error
        except BadFrame as error:
            raise ProbeCrashed("the probe's process answered nonsense") from error
        except (ConnectionError, EOFError) as error:
            raise self._post_mortem() from error

    def _send(self, frame: bytes) -> None:
        self._await_no_longer_than_allowed()
        self._channel.sendall(frame)

    def _send_file(self, path: Path) -> None:
        with path.open("rb") as file:
            while part := file.read(MIB):
                self._send(part)

    def _receive(self, length: int) -> bytes:
        """Exactly so many bytes. Raises EOFError, TimeoutError."""
        received = bytearray()
        while len(received) < length:
            self._await_no_longer_than_allowed()
            part = self._channel.recv(min(length - len(received), MIB))
            if not part:
                raise EOFError
            received += part
        return bytes(received)

    def _await_no_longer_than_allowed(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._channel.settimeout(left)

    def _post_mortem(self) -> ProbeFailure:
        """Why the channel closed. A child that closed it and lives on is ended, too."""
        if self._aborted:
            return ProbeCrashed("the probe was aborted")
        try:
            exited = self._child.wait(_DYING_SECONDS)
        except TimeoutError:
            return ProbeCrashed("the probe's process hung up")
        except Closed:
            return ProbeCrashed("the probe's process was lost with its zygote")
        return cause_of_death(exited, self._limits)


_DYING_SECONDS = 1.0
"""A dying process closes its descriptors moments before it can be reaped."""


def _as_failure(reply: Failed, most_chars: int) -> ProbeFailure:
    """What the child says went wrong: a known code, and a text that is safe to show."""
    failure = PROBE_FAILURES.get(reply.code)
    if failure is None:
        return ProbeCrashed("the probe's process answered nonsense")
    return failure(_shown(reply.detail, most_chars))


def _shown(detail: str, most_chars: int) -> str:
    """A text of the child's that is safe to show."""
    printable = "".join(letter if letter.isprintable() else " " for letter in detail)
    return " ".join(printable.split())[:most_chars]
