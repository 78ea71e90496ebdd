"""In what numbers a model is computed.

float32 and float64: throughout. bfloat16 and float16: mixed, as people train: under torch.autocast,
parameters in float32. pure_bfloat16 and pure_float16: parameters, buffers and inputs in 16 bits, as
after `model.half()`. Whatever happens in between, a model takes its inputs in `Precision.outside`
and answers in it, so that batches, losses and tasks are the same for all. The casts stand in the
recorded graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from service.probing.trace import primary_output


@dataclass(frozen=True, slots=True)
class Precision:
    """One entry of PRECISIONS."""

    name: str
    """As in the request."""
    stored: torch.dtype
    """Of parameters and buffers."""
    autocast: torch.dtype | None = None
    """What torch.autocast computes in; None: there is none."""

    @property
    def outside(self) -> torch.dtype:
        """Of inputs as they are drawn, of the answer, the targets and the loss."""
        return torch.float64 if self.stored is torch.float64 else torch.float32

    @property
    def half(self) -> torch.dtype | None:
        """The type of 16 bits that is computed in; None: there is none."""
        return self.autocast or (self.stored if self.stored.itemsize < 4 else None)

    @property
    def is_pure(self) -> bool:
        """Whether parameters themselves have 16 bits."""
        return self.half is not None and self.autocast is None

    @property
    def scales_loss(self) -> bool:
        """Whether training in it is training with torch.amp.GradScaler."""
        return self.autocast is torch.float16

    def notes(self, device: str) -> tuple[str, ...]:
        """What the reader should know of a probe in it."""
        told = []
        if self.autocast is not None:
            told.append(
                f"{self.name}: under torch.autocast, by its list of operations on {device}; "
                "parameters and loss in float32"
            )
        if self.scales_loss:
            told.append(
                "float16: trainings scale the loss as torch.amp.GradScaler does, from 2^16 and "
                "halved wherever a gradient overflows"
            )
        if self.stored is torch.float16:
            told.append(
                "pure_float16: Adam's eps of 1e-8 is 0 in float16, so that it divides by 0 where a "
                "gradient is small; no loss scale, since torch.amp.GradScaler takes no gradients "
                "of float16"
            )
        return tuple(told)

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        """What the module answers; of 16 bits the primary output alone, in float32."""
        if self.half is None:
            return module(*inputs)
        device = inputs[0].device.type if inputs else "cpu"
        with self._arithmetic(device):
            output = primary_output(module(*(self._given(tensor) for tensor in inputs)))
        return output if output.is_complex() else output.to(self.outside)

    def _given(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.stored) if tensor.is_floating_point() else tensor

    @contextmanager
    def _arithmetic(self, device: str) -> Iterator[None]:
        with ExitStack() as stack:
            if self.autocast is not None:
                if device == "cpu":
                    _mend_autocast()
                stack.enter_context(torch.autocast(device, self.autocast))
            yield


FLOAT32 = Precision("float32", torch.float32)
PRECISIONS = {
    one.name: one
    for one in (
        FLOAT32,
        Precision("float64", torch.float64),
        Precision("bfloat16", torch.float32, torch.bfloat16),
        Precision("float16", torch.float32, torch.float16),
        Precision("pure_bfloat16", torch.bfloat16),
        Precision("pure_float16", torch.float16),
    )
}
"""By the names of `ProbePlan.precision`."""


@cache
def _mend_autocast() -> torch.library.Library:
    """What the processor's autocast leaves undone is done from now on. torch.jit.trace writes
    aten::_convolution, which CUDA's autocast lowers and the processor's leaves in float32. An LSTM
    is handed to oneDNN before it is lowered, which knows no float16 on most processors, and on
    others no kernel of it that trains."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_convolution", _lowered_convolution, "AutocastCPU")
    library.impl("lstm.input", _known_lstm, "AutocastCPU")
    return library


def _lowered_convolution(*arguments: Any) -> Any:
    dtype = torch.get_autocast_dtype("cpu")
    lowered = [
        one.to(dtype) if isinstance(one, Tensor) and one.dtype is torch.float32 else one
        for one in arguments
    ]
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    with torch._C._ExcludeDispatchKeyGuard(keys):
        return torch.ops.aten._convolution(*lowered)


def _known_lstm(*arguments: Any) -> Any:
    """Of float16 step by step, without oneDNN; its operations are lowered one by one."""
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(enabled and torch.get_autocast_dtype("cpu") is not torch.float16)
    try:
        return torch.ops.aten.lstm.input.decompose(*arguments)
    finally:
        torch._C._set_mkldnn_enabled(enabled)
