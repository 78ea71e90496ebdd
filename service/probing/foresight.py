"""What a model would take, before anything of its size is allocated.

Bytes of parameters follow from sizes, those of a spec from its layers, those of a file from its
list of tensors. What the operations give is seen in one pass over torch's fake tensors: they have
sizes and a device but no elements, and pick the same kernels as real ones, so that the bytes are
those of a recording, or fewer (what an LSTM on the processor keeps for its backward pass is left
out).
What is refused here is refused by the estimate that a tried micro-batch is held to, and never
where that would not: all that is not known counts as nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO

import torch
from torch._subclasses.fake_tensor import FakeTensorMode  # importing torch does, too

from service.domain.architecture import Architecture
from service.domain.errors import ProbeFailure
from service.domain.memory import COPIES, MIB, comes_near, parameter_bytes
from service.domain.model_source import EXPORTED_PROGRAM
from service.domain.probe_plan import ProbePlan
from service.probing.budget import SIZES, MicroBatch, fit
from service.probing.feed import PILOT, Feed
from service.probing.loaders import spec, torchscript
from service.probing.loaders.loaded import LoadedModel, named
from service.probing.precision import PRECISIONS


def check_spec(plan: ProbePlan, architecture: Architecture, memory_mb: int) -> None:
    """Raises ProbeOutOfMemory, with the estimate, when not even the smallest batch would fit so
    many MiB. `plan`: with its inputs."""
    held = MicroBatch(0.0, 0.0, 0.0, parameter_bytes(architecture.size, plan.precision))
    fit(plan, held, memory_mb)
    if comes_near(plan, architecture, memory_mb):
        fit(plan, replace(held, sample_bytes=sample_bytes(plan, architecture)), memory_mb)


def check_file(plan: ProbePlan, file: IO[bytes], model_format: str, memory_mb: int) -> None:
    """Likewise, by the parameters that a file lists; those that it does not tell apart from other
    tensors are left out."""
    if COPIES * file.seek(0, os.SEEK_END) <= memory_mb * MIB:
        return
    try:
        numbers = _parameter_numbers(file, model_format)
    except Exception:
        # What is wrong with the file is told when it is loaded.
        return
    finally:
        file.seek(0)
    parameters = parameter_bytes(numbers, plan.precision)
    fit(plan, MicroBatch(0.0, 0.0, 0.0, parameters), memory_mb)


def sample_bytes(plan: ProbePlan, architecture: Architecture) -> float:
    """All operations' outputs, per sample; 0 where they cannot be foreseen: what is wrong with the
    model shows when it is built."""
    precision, samples = PRECISIONS[plan.precision], SIZES[0]
    # Values count for nothing, and some initializations read them.
    plain = tuple(replace(layer, init={}) for layer in architecture.layers)
    try:
        with FakeTensorMode() as mode, _default_dtype(precision.stored):
            module = spec.build(replace(architecture, layers=plain))
            if plan.mode != "as_saved":
                module.train(plan.mode == "train")
        model = LoadedModel(
            "spec",
            module,
            dict(named(module.named_parameters())),
            dict(named(module.named_buffers())),
            precision=precision,
        )
        drawn = Feed(plan, precision.outside, None).inputs(samples, *PILOT)
        with mode:
            recording = model.record(tuple(map(mode.from_tensor, drawn)))
    except (ProbeFailure, RuntimeError):
        return 0.0
    outputs: int = sum(node.meta.get("bytes", 0) for node in recording.module.graph.nodes)
    return outputs / samples


def _parameter_numbers(file: IO[bytes], model_format: str) -> int:
    if model_format != EXPORTED_PROGRAM:
        return torchscript.parameter_numbers(file)
    # Only here, as in `opening`.
    from service.probing.loaders import exported_archive

    return exported_archive.parameter_numbers(file)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
