"""What a worker and its zygote say to each other: one JSON message per packet.

The zygote never loads a model, so it is trusted; children never see this socket.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from service.sandbox.limits import Limits

_PACKET_BYTES = 65536
_MOST_DESCRIPTORS = 3


class Start(msgspec.Struct, tag="start", frozen=True):
    """Import and warm up."""

    entry: str
    """"package.module:function", called in each child with (model_fd | None, channel_fd,
    output_fd)."""
    warm_up: str
    """"package.module:function", called once in the zygote; does one whole job."""
    limits: Limits
    rehearse: str | None = None
    """"package.module:function", called in each child while it waits for its descriptors."""


class WarmUp(msgspec.Struct, tag="warm_up", frozen=True):
    """Warm up further, for all children to come. Answered as Start is."""

    warm_up: str
    """"package.module:function", called once in the zygote."""


class Fork(msgspec.Struct, tag="fork", frozen=True):
    """Let a child begin. Carries the descriptors channel, output and, if has_model, model."""

    has_model: bool
    gpu: bool = False
    """The child may reach the host's GPUs."""


class Started(msgspec.Struct, tag="started", frozen=True):
    """The zygote is warm, or failed to be and is gone."""

    failure: str | None = None
    """Traceback of the import or warm-up that failed; None: it is warm."""
    unsealable: str | None = None
    """Why children cannot be sealed on this host; None: every child is sealed."""


class Forked(msgspec.Struct, tag="forked", frozen=True):
    """The child lives. Carries its pidfd."""


class Exited(msgspec.Struct, tag="exited", frozen=True):
    """The child is dead and buried."""

    status: int
    """Exit status, or minus the number of the signal that ended it."""
    cpu_seconds: float
    """Processor time it used, all threads together."""


Message = Start | Started | WarmUp | Fork | Forked | Exited
_Expected = TypeVar("_Expected", bound=Message)


class Closed(Exception):
    """The other side is gone."""


def send(control: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one packet. Raises Closed, TimeoutError."""
    packet = msgspec.json.encode(message)
    try:
        if descriptors:
            socket.send_fds(control, [packet], list(descriptors))
        else:
            control.send(packet)
    except ConnectionError as error:
        raise Closed from error


def receive(
    control: socket.socket, expected: type[_Expected] | tuple[type[_Expected], ...]
) -> tuple[_Expected, list[int]]:
    """One packet of an expected kind, and its descriptors. Raises Closed, TimeoutError."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(
            control, _PACKET_BYTES, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError as error:
        raise Closed from error
    if not packet:
        raise Closed
    message: Message = msgspec.json.decode(packet, type=Message)
    if not isinstance(message, expected):
        raise Closed(f"unexpected {type(message).__name__}")
    return message, descriptors
