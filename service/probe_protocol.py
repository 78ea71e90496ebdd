"""The messages that cross the process wall: bounded JSON frames, strictly decoded.

A frame is a 4-byte big-endian length and that many bytes of JSON. The worker speaks first; the
child answers each message with exactly one frame, before which it may tell a few times how far it
is (`Underway`). The child's side is untrusted: a frame over the limit, a field of the wrong type or
an unknown tag ends the session.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from service.domain.architecture import Architecture
from service.domain.measurements import Measurements, ModelFacts, Trial
from service.domain.probe_plan import Look, ProbePlan

HEADER = struct.Struct(">I")
UNDERWAY_BYTES = 64
"""Bytes of the body of an `Underway`, at most."""
UNDERWAY_FRAMES = 100
"""`Underway`s before one answer, at most: one for each percent."""


class Open(msgspec.Struct, tag="open", frozen=True):
    """Load and record the model. The file, if any, is descriptor `model_fd`; so many bytes of
    weights and of data follow the frame."""

    plan: ProbePlan
    architecture: Architecture | None = None
    format: str = "spec"
    threads: int = 1
    memory_mb: int | None = None
    """What the child may take besides what it has; None: no bound."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    memory_fraction: float = 1.0
    """Share of the device's own memory that may be taken, 0 … 1."""
    weights_bytes: int = 0
    data_bytes: int = 0


class Measure(msgspec.Struct, tag="measure", frozen=True):
    """Probe the model as changed."""

    changes: tuple[dict[str, Any], ...] = ()
    after_steps: int = 0
    look: Look | None = None
    """None: all that the plan says."""
    seconds: float | None = None
    """After which it is given up."""


class Train(msgspec.Struct, tag="trial", frozen=True):
    """Train the model as changed."""

    changes: tuple[dict[str, Any], ...] = ()
    rates: dict[str, float] = {}
    """Optimizer → the one rate it is tried at; empty: the usual optimizers and rates."""
    seconds: float | None = None
    """After which it is given up."""


class Export(msgspec.Struct, tag="export", frozen=True):
    """Write the weights as changed to the output file."""

    changes: tuple[dict[str, Any], ...] = ()


class Underway(msgspec.Struct, tag="underway", frozen=True, forbid_unknown_fields=True):
    """Not the answer yet: how much of what was asked is done."""

    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """0 … 1."""


class Opened(msgspec.Struct, tag="opened", frozen=True):
    """The model is there."""

    facts: ModelFacts
    peak_memory_mb: float | None = None


class Measured(msgspec.Struct, tag="measured", frozen=True):
    """One probe's numbers."""

    measurements: Measurements
    peak_memory_mb: float | None = None


class Trained(msgspec.Struct, tag="trained", frozen=True):
    """The short trainings."""

    trial: Trial
    peak_memory_mb: float | None = None


class Exported(msgspec.Struct, tag="exported", frozen=True):
    """The weights are in the output file."""

    size: int
    peak_memory_mb: float | None = None


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """The change that was asked for cannot be made; the session goes on."""

    detail: str


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The child could not do it; the session is over."""

    code: str
    """A key of `service.domain.errors.PROBE_FAILURES`."""
    detail: str


Ask = Open | Measure | Train | Export
Reply = Opened | Measured | Trained | Exported | Refused | Failed
Told = Reply | Underway

_ask: msgspec.json.Decoder[Ask] = msgspec.json.Decoder(Ask)
_told: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)
_encoder = msgspec.json.Encoder()


class FrameTooLarge(Exception):
    """A frame announces more bytes than allowed."""


class BadFrame(Exception):
    """A frame is not valid JSON of a known message."""


def encode(message: Ask | Told) -> bytes:
    """One frame, header included."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def frame_length(header: bytes, limit: int) -> int:
    """Length announced by a header. Raises FrameTooLarge."""
    (length,) = HEADER.unpack(header)
    if length > limit:
        raise FrameTooLarge(f"a frame of {length} bytes, the limit is {limit}")
    return int(length)


def decode_ask(body: bytes) -> Ask:
    """A message to the child. Raises BadFrame."""
    return _decode(_ask.decode, body)


def decode_reply(body: bytes) -> Told:
    """A message from the child. Raises BadFrame."""
    told = _decode(_told.decode, body)
    if isinstance(told, Underway) and len(body) > UNDERWAY_BYTES:
        raise BadFrame("too long for a share")
    return told


_Message = TypeVar("_Message")


def _decode(decoder: Callable[[bytes], _Message], body: bytes) -> _Message:
    try:
        return decoder(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadFrame(str(error)[:300]) from error
