"""From a torch.nn.Module to a file that can be uploaded. Only this file imports torch, and only
when it is called."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from graddx.errors import ExportFailed

if TYPE_CHECKING:
    from torch import Tensor, nn

    Module: TypeAlias = nn.Module

BATCH = 2
"""Samples of the batch that a model is traced with: one is not enough for BatchNorm."""
REASON_LENGTH = 300
"""Characters of torch's own message that are told."""


def is_module(model: object) -> TypeGuard[Module]:
    """Whether it is a torch.nn.Module; one cannot exist without torch being imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def export(module: Module, probe: Mapping[str, Any], folder: Path) -> Path:
    """`module` as a TorchScript file in `folder`, in the mode (train or eval) that it is in.

    Scripted, which keeps control flow; where torch cannot, traced with a batch drawn as
    `probe["inputs"]` says. The module itself stays as it is: what is exported is a copy on the
    CPU. Raises ExportFailed."""
    name = type(module).__name__
    path = folder / f"{name}.pt"
    alone = _tried(f"{name} cannot be copied to the CPU", lambda: copy.deepcopy(module).cpu())
    failures = []
    for how, write in (("script", _script), ("trace", _trace)):
        try:
            write(alone, probe, path)
            return path
        except Exception as error:  # whatever the model's own code raises
            failures.append(f"torch.jit.{how}: {_reason(error)}")
    raise ExportFailed("\n  ".join([f"{name} cannot be exported:", *failures]))


def _tried(what: str, act: Callable[[], Module]) -> Module:
    try:
        return act()
    except Exception as error:  # whatever the model's own code raises
        raise ExportFailed(f"{what}: {_reason(error)}") from error


def _script(module: Module, _probe: Mapping[str, Any], path: Path) -> None:
    import torch

    with _only_warnings_of_the_model():
        torch.jit.script(module).save(str(path))


def _trace(module: Module, probe: Mapping[str, Any], path: Path) -> None:
    import torch

    inputs = probe.get("inputs")
    if not inputs:
        raise ValueError('needs probe={"inputs": [{"shape": [...]}]} to draw a batch.')
    with _only_warnings_of_the_model(), torch.random.fork_rng(devices=[]), torch.no_grad():
        batch = tuple(_draw(one) for one in inputs)
        torch.jit.trace(module, batch, check_trace=False).save(str(path))


def _draw(one: Mapping[str, Any]) -> Tensor:
    """A batch as the entry of `probe.inputs` says: (2, *shape)."""
    import torch

    shape = (BATCH, *one["shape"])
    dtype = getattr(torch, one.get("dtype", "float32"))
    if dtype.is_floating_point:
        return torch.randn(shape).to(dtype)
    high = 2 if dtype is torch.bool else one.get("high", 2)
    return torch.randint(0, high, shape).to(dtype)


@contextmanager
def _only_warnings_of_the_model() -> Iterator[None]:
    """torch.jit is deprecated in favour of torch.export, which servers do not read yet; and
    tracing warns of torch's own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", module=r"torch\.(?!jit)")
        yield


def _reason(error: Exception) -> str:
    """The first lines of torch's message, which can be pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]}…"
