"""What people use instead, as they would write or call it."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.performance.timing import Act

Step = Callable[[nn.Module], Tensor]
"""A forward pass of a model to its loss."""
LEAVES = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.LSTM, nn.Embedding)


class Refused(Exception):
    """The rival cannot be run on this network; the message says why."""


@contextmanager
def hooks_by_hand(model: nn.Module, forward: Step) -> Iterator[Act]:
    """Mean, standard deviation, largest element, norm and share of zeros of every module's output
    and of the gradient there."""
    seen: dict[str, list[float]] = {}

    def note(name: str, tensor: Tensor) -> None:
        seen[name] = [
            tensor.mean().item(),
            tensor.std().item(),
            tensor.abs().max().item(),
            tensor.norm().item(),
            (tensor == 0).float().mean().item(),
        ]

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        def after(_: nn.Module, __: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            assert isinstance(tensor, Tensor)
            note(name, tensor.detach())
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: note(f"{name}.gradient", gradient))

        return after

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, LEAVES)
    ]
    try:
        yield lambda: torch.autograd.grad(forward(model), list(model.parameters()))
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def wandb_watch(model: nn.Module, forward: Step) -> Iterator[Act]:
    """wandb.watch(log="all") at every step, offline."""
    if importlib.util.find_spec("wandb") is None:
        raise Refused("not installed")
    wandb = importlib.import_module("wandb")
    watched = copy.deepcopy(model)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:  # noqa: PTH123
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            run = wandb.init(mode="offline", dir=folder, settings=wandb.Settings(silent=True))
            run.watch(watched, log="all", log_freq=1)

        def step() -> None:
            watched.zero_grad(set_to_none=True)
            forward(watched).backward()
            run.log({})

        try:
            yield step
        finally:
            run.finish()


@contextmanager
def backpack_norms(model: nn.Module, forward: Step) -> Iterator[Act]:
    """BackPACK's BatchL2Grad: the norm of every sample's gradient, of the parameters alone."""
    if importlib.util.find_spec("backpack") is None:
        raise Refused("not installed")
    backpack = importlib.import_module("backpack")
    extensions = importlib.import_module("backpack.extensions")
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise Refused("refuses BatchNorm")
    extended = backpack.extend(copy.deepcopy(model))

    def step() -> None:
        extended.zero_grad(set_to_none=True)
        with backpack.backpack(extensions.BatchL2Grad()), warnings.catch_warnings():
            # It names the modules that it leaves out.
            warnings.simplefilter("ignore")
            forward(extended).backward()

    try:
        step()
    except Exception as error:  # it raises whatever its module map does not know
        raise Refused(f"raises {type(error).__name__}") from error
    yield step


RIVALS = {
    "hooks by hand": hooks_by_hand,
    "wandb.watch(log=all)": wandb_watch,
    "BackPACK BatchL2Grad": backpack_norms,
}
