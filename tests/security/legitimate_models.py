"""TorchScript files as people save them: every layer type, known networks, control flow."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, List, Optional  # noqa: UP035 - TorchScript knows these names

import torch
from torch import Tensor, nn

from service.domain.layers import LAYER_TYPES
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import BadArgument
from service.domain.layers.tensor import Misfit
from service.probing.loaders.own_types import OWN_TYPES
from tests.probing.test_layer_table import BATCH, draw_args, draw_inputs, real_forward

LAYERS = [name for name in LAYER_TYPES if name not in OWN_TYPES]


def saved(module: torch.jit.ScriptModule) -> bytes:
    file = io.BytesIO()
    torch.jit.save(module, file)
    return file.getvalue()


@contextmanager
def usual_executor() -> Iterator[None]:
    """As whoever saves a model has it: loading one in this process has switched it off."""
    profiling = torch._C._jit_set_profiling_executor(True)
    mode = torch._C._jit_set_profiling_mode(True)
    optimized = torch._C._get_graph_executor_optimize()
    torch._C._set_graph_executor_optimize(True)
    try:
        yield
    finally:
        torch._C._jit_set_profiling_executor(profiling)
        torch._C._jit_set_profiling_mode(mode)
        torch._C._set_graph_executor_optimize(optimized)


def exports(module: nn.Module, *example: Tensor) -> dict[str, bytes]:
    """The module in each of the ways in which it can be exported at all."""
    trace: Callable[..., Any] = torch.jit.trace
    ways: dict[str, Callable[[], Any]] = {
        "scripted": lambda: torch.jit.script(module.train()),
        "frozen": lambda: torch.jit.freeze(torch.jit.script(module.eval())),
        "traced": lambda: trace(module.train(), example, check_trace=False, strict=False),
        "traced for evaluation": lambda: trace(
            module.eval(), example, check_trace=False, strict=False
        ),
    }
    made = {}
    for way, export in ways.items():
        with warnings.catch_warnings(), usual_executor():
            warnings.simplefilter("ignore")
            try:
                made[way] = saved(export())
            except Exception:
                continue  # torch.jit knows every layer in some way, not in every one
    return made


def layer(name: str) -> tuple[nn.Module, list[Tensor]]:
    """A layer of this type with arguments drawn at random, and inputs that it takes."""
    for case in range(2_000):
        rng = random.Random(f"{name}-{case}")
        layer_type = LAYER_TYPES[name]
        args, inputs = draw_args(layer_type, rng), draw_inputs(layer_type, rng)
        if layer_type.signature.faults(args):
            continue
        try:
            applied = layer_type.apply(args, inputs)
        except (BadArgument, Misfit):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, network = real_forward(layer_type, applied, inputs)
        return network.get_submodule("only"), list(_tensors(layer_type, applied.args, inputs))
    raise AssertionError(name)


def _tensors(layer_type: LayerType, args: Any, inputs: Any) -> Iterator[Tensor]:
    times = 3 if layer_type.name == "MultiheadAttention" and len(inputs) == 1 else 1
    for one in inputs * times:
        if one.is_integer:
            yield torch.randint(0, args.get("num_embeddings", 1), (BATCH, *one.shape))
        else:
            yield torch.randn(BATCH, *one.shape)


class Branches(nn.Module):
    """Loops, conditions, lists, dicts, optionals, texts and a class of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.names = {"save": 1, "first": 2}

    def pick(self, x: Tensor, times: int) -> Tensor:
        for number in range(times):
            x = x + number if bool(x.sum() > 0) else torch.relu(x)
        while bool(x.abs().max() > 10):
            x = x / 2
        return x

    def forward(self, x: Tensor, scale: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        kept: List[Tensor] = []  # noqa: UP006
        for index, step in enumerate(self.steps):
            x = step(x)
            if index % 2 == 0:
                kept.append(x)
        if x.dim() != 2:
            raise ValueError(f"expected 2 dimensions, not {x.dim()}; torch.save is no help")
        if scale is not None:
            x = x * scale
        y = torch.cat(kept).chunk(2)[0] + float(self.names["save"])
        assert y.size(0) == x.size(0), "sizes differ"
        named = {"from_file": y}
        return self.pick(x, 2) + named["from_file"]


class Waits(nn.Module):
    """Work in tasks of its own, and a profiler's mark."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.profiler.record_function("waits"):
            task = torch.jit.fork(self.fc, x)
            waited: Tensor = torch.jit.wait(task)
        summed: Tensor = waited + torch.linalg.norm(x) + torch.fft.rfft(x).abs().sum()
        return summed


class Recurs(nn.Module):
    """Packed sequences and gathered indices."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((x.size(0),), x.size(1), dtype=torch.long)
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(x), lengths, batch_first=True)
        steps, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return torch.einsum("bti,bsi->bts", steps, steps).softmax(-1).topk(2).values


CUSTOM: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "Branches": lambda: (Branches(), torch.randn(2, 4)),
    "Waits": lambda: (Waits(), torch.randn(2, 4)),
    "Recurs": lambda: (Recurs(), torch.randint(0, 9, (2, 5))),
}
