"""What runs in the sealed child: read a message, do it, answer with one frame; before that, tell
now and then how far it is.

Torch's own threads are raised only here, after the fork: threads that exist before would not
survive it.
"""

from __future__ import annotations

import gc
import io
import os
import resource
from dataclasses import replace
from typing import IO, Any

import numpy as np
import torch
from torch import hub

from service import probe_protocol as protocol
from service.domain.architecture import resolve
from service.domain.errors import (
    ChangeRefused,
    InternalError,
    ProbeFailure,
    ProbeOutOfMemory,
)
from service.domain.memory import AUTO_BATCH
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing import devices
from service.probing.loaders.loaded import LoadedModel
from service.probing.loaders.torchscript import plain_executor
from service.probing.opening import Sent, opened
from service.probing.pace import Pace
from service.probing.session import Session
from service.probing.threads import worth_sharing
from service.probing.trace import first_lines, quiet_failures

ASK_LIMIT = 256 * 1024 * 1024
"""Bytes of one message from the worker, who is trusted: a bound against nonsense only."""
_NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory")

SMALL_SPEC: dict[str, Any] = {
    "input": {"shape": [1, 6, 6]},
    "layers": [
        {"name": "conv", "type": "Conv2d", "args": {"out_channels": 2, "kernel_size": 3}},
        {"type": "BatchNorm2d"},
        {"type": "ReLU"},
        {"type": "Flatten"},
        {"type": "Dropout", "args": {"p": 0.1}},
        {
            "type": "Linear",
            "args": {"out_features": 3},
            "init": {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}},
        },
    ],
}
"""What the warm-up builds."""
SMALL_PERCEPTRON: dict[str, Any] = {
    "input": {"shape": [8]},
    "layers": [
        {"type": "Linear", "args": {"out_features": 8}},
        {"type": "ReLU"},
        {"type": "Linear", "args": {"out_features": 3}},
    ],
}
"""What runs side by side."""
_CHANGES_OF_THE_SMALL_MODELS: dict[str, tuple[dict[str, Any], ...]] = {
    "conv": (
        {"kind": "activation", "layers": ["conv"], "activation": "Tanh"},
        {
            "kind": "normalization",
            "layers": [
                {"after": "conv", "type": "GroupNorm", "args": {"num_groups": 1, "num_channels": 2}}
            ],
        },
        {
            "kind": "initializer",
            "parameters": [{"parameter": "conv.weight", "initializer": "orthogonal_"}],
        },
    ),
    "0": ({"kind": "residual", "layers": ["0"]},),
}
"""One edit of each kind, by the first layer's name."""


GARBAGE = (700, 10, 100)
"""Thresholds of Python's collector: young objects as often as ever, all of them at every hundredth
turn. Of a thousand layers come a million objects, nearly all of which stay: going through all of
them whenever their number had grown by a quarter took a fifth of the time."""


def serve(model_fd: int | None, channel_fd: int, output_fd: int) -> None:
    """Answer messages until the worker hangs up or something fails."""
    gc.set_threshold(*GARBAGE)
    session: Session | None = None
    with os.fdopen(channel_fd, "r+b", buffering=0) as channel:
        while (ask := _next(channel)) is not None:
            try:
                if isinstance(ask, protocol.Open):
                    weights = _exactly(channel, ask.weights_bytes)
                    data = _exactly(channel, ask.data_bytes)
                    pace = Pace(lambda share: _send(channel, protocol.Underway(share)))
                    session = _open(ask, model_fd, weights, data, pace)
                    reply: protocol.Reply = protocol.Opened(session.facts(), _peak_mb(session))
                else:
                    reply = _do(session, ask, output_fd)
            except ChangeRefused as refused:
                reply = protocol.Refused(refused.detail)
            except (ProbeFailure, MemoryError, RuntimeError) as error:
                failure = _as_failure(error, session)
                _send(channel, protocol.Failed(failure.code, failure.detail))
                return
            _send(channel, reply)


def warm_up() -> None:
    """One whole job before the first fork, so that no child imports a module or warms a cache.

    A small model as spec and TorchScript: load, record, measure, settle, train, export. PyTorch's
    compiler and sympy are left out (`symbolic`).
    """
    torch.set_num_threads(1)
    quiet_failures()
    # torch.fx.Interpreter makes a progress bar, and tqdm, where it is installed, a thread for it:
    # one that exists before the seal would escape it.
    hub.tqdm.monitor_interval = 0  # type: ignore[attr-defined]
    plan = ProbePlan(batch_size=4, batches=2, seeds=2, trial_steps=2)
    whole_job(Session.open(plan, resolve(SMALL_SPEC), None))
    whole_job(_with_data_and_weights(plan))
    half = replace(plan, precision="float16", trial_steps=0)
    Session.open(half, resolve(SMALL_SPEC), None).measure()
    plain_executor()
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    inputs = (InputPlan((4,)),)
    plan = ProbePlan(inputs=inputs, batch_size=4, batches=2, seeds=1, trial_steps=2)
    whole_job(Session.open(plan, None, file))


def rehearse() -> None:
    """A small job in the child itself, before it has a model: what it writes to first, of all that
    it shares with the zygote, is its own then, and no request waits for the copies."""
    plan = ProbePlan(batch_size=4, batches=1, seeds=1, trial_steps=0)
    Session.open(plan, resolve(SMALL_SPEC), None).measure()
    plan = replace(plan, batches=2, seeds=2)  # side by side
    Session.open(plan, resolve(SMALL_PERCEPTRON), None).measure()


def _with_data_and_weights(plan: ProbePlan) -> Session:
    weights, rows = io.BytesIO(), io.BytesIO()
    Session.open(plan, resolve(SMALL_SPEC), None).export(weights)
    np.savez(rows, x=np.ones((4, 1, 6, 6), np.float32), y=np.arange(4) % 3)
    return Session.open(
        plan, resolve(SMALL_SPEC), None, weights=weights.getvalue(), data=rows.getvalue()
    )


def whole_job(session: Session) -> None:
    """Everything that a session is asked for, and what is said of it, to and fro."""
    facts = protocol.encode(protocol.Opened(session.facts()))
    measured = protocol.encode(protocol.Measured(session.measure()))
    settled = protocol.encode(protocol.Measured(session.measure(after_steps=1)))
    session.measure(_CHANGES_OF_THE_SMALL_MODELS.get(session.layers[0].name, ()))
    trained = protocol.encode(protocol.Trained(session.trial()))
    session.export(io.BytesIO())
    for frame in (facts, measured, settled, trained):
        protocol.decode_reply(frame[protocol.HEADER.size :])


def _open(
    ask: protocol.Open,
    model_fd: int | None,
    weights: bytes | None,
    data: bytes | None,
    pace: Pace,
) -> Session:
    torch.set_num_threads(ask.threads)
    device = devices.opened(ask.device, ask.memory_fraction)
    file: IO[bytes] | None = None
    if ask.architecture is None and model_fd is not None:
        file = os.fdopen(model_fd, "rb", closefd=False)
    sent = Sent(ask.architecture, file, ask.format, weights or None, data or None)
    memory_mb = devices.memory_mb(device, ask.memory_mb, ask.memory_fraction)
    found = opened(ask.plan, sent, device, memory_mb)
    _share(ask.threads, found.model, found.plan.inputs, found.plan.batch_size or AUTO_BATCH)
    session = Session.of(found, memory_mb=memory_mb, device=device, pace=pace)
    _share(ask.threads, session.model, session.plan.inputs, session.batch_size)
    return session


def _share(
    threads: int, model: LoadedModel, inputs: tuple[InputPlan, ...], batch_size: int
) -> None:
    """So many threads, where they pay off for batches of this size."""
    shapes = (tuple(value.shape) for value in model.parameters.values())
    torch.set_num_threads(threads if worth_sharing(shapes, inputs, batch_size) else 1)


def _do(session: Session | None, ask: protocol.Ask, output_fd: int) -> protocol.Reply:
    if session is None:
        raise InternalError("no model was opened")
    if isinstance(ask, protocol.Measure):
        measurements = session.measure(
            ask.changes, after_steps=ask.after_steps, look=ask.look, seconds=ask.seconds
        )
        return protocol.Measured(measurements, _peak_mb(session))
    if isinstance(ask, protocol.Train):
        trained = session.trial(ask.changes, rates=ask.rates, seconds=ask.seconds)
        return protocol.Trained(trained, _peak_mb(session))
    if isinstance(ask, protocol.Export):
        with os.fdopen(output_fd, "wb", closefd=False) as output:
            output.seek(0)
            output.truncate()
            return protocol.Exported(session.export(output, ask.changes), _peak_mb(session))
    raise InternalError(f"unexpected message {type(ask).__name__}")


def _as_failure(error: Exception, session: Session | None) -> ProbeFailure:
    if isinstance(error, ProbeFailure):
        if not any(sign in error.detail for sign in _NO_MEMORY):
            return error
    elif not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _NO_MEMORY):
        return InternalError(first_lines(error))
    detail = f"the probe asked for more memory than it may have: {first_lines(error)}"
    return ProbeOutOfMemory(detail + _what_would_fit(session))


def _what_would_fit(session: Session | None) -> str:
    """A batch size by the estimate, which was too high, and so under half of what was tried."""
    if session is None or session.batch_size < 2:
        return ""
    fitting = max(1, min(session.fits or session.batch_size, session.batch_size // 2))
    return f"; batch_size was {session.batch_size}, {fitting} is estimated to fit"


def _peak_mb(session: Session) -> float:
    """Of the device that computes."""
    on_device = devices.peak_mb(session.device)
    if on_device is not None:
        return on_device
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _next(channel: IO[bytes]) -> protocol.Ask | None:
    header = _exactly(channel, protocol.HEADER.size)
    if header is None:
        return None
    body = _exactly(channel, protocol.frame_length(header, ASK_LIMIT))
    return None if body is None else protocol.decode_ask(body)


def _exactly(channel: IO[bytes], size: int) -> bytes | None:
    parts = []
    while size:
        part = channel.read(size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _send(channel: IO[bytes], reply: protocol.Told) -> None:
    view = memoryview(protocol.encode(reply))
    while view:
        view = view[channel.write(view) or 0 :]
