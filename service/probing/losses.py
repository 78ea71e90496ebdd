"""What the model is asked to minimise, and how that is guessed from its output.

The class dimension: dimension 1 of an output (B, C) or (B, C, d1, …), as torch.nn.CrossEntropyLoss
has it, except that an output (B, T, V) is read as V classes for each of T positions, so there it is
the last. Random targets carry no information about the input: they serve to measure gradients at
the start, where `Loss.chance` is what knowing nothing costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.nn import functional

from service.domain.errors import ModelRaised


class Target(Enum):
    """What a loss compares the output with."""

    CLASSES = "classes"
    """Integers 0 … C-1, one per position."""
    REAL = "real"
    """Real numbers, one per output element."""
    BINARY = "binary"
    """0 or 1, one per output element."""
    NOTHING = "nothing"
    """No target: a function of the output alone."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One entry of LOSSES."""

    target: Target
    """What it is compared with."""
    compute: Callable[[Tensor, Tensor], Tensor]
    """(output, target) → scalar mean; classes stand in dimension 1."""
    chance: float | None = None
    """What predicting zero (binary: one half) costs, for targets from N(0, 1) or {0, 1};
    None: undefined, or log C for classes."""


def _nll_of_softmax(output: Tensor, target: Tensor) -> Tensor:
    """NLL of the log of probabilities; a probability that underflowed to 0 counts as the smallest
    normal number, so that the loss stays finite."""
    return functional.nll_loss(output.clamp_min(torch.finfo(output.dtype).tiny).log(), target)


def _bce(output: Tensor, target: Tensor) -> Tensor:
    """torch.nn.BCELoss, but what is no probability (NaN) gives NaN, not an exception."""
    if not bool(((output >= 0) & (output <= 1)).all()):
        return (output * math.nan).mean()
    return functional.binary_cross_entropy(output, target)


def _output_mean_square(output: Tensor, _target: Tensor) -> Tensor:
    return output.square().mean()


LOSSES: dict[str, Criterion] = {
    "cross_entropy": Criterion(Target.CLASSES, functional.cross_entropy),
    "nll": Criterion(Target.CLASSES, functional.nll_loss),
    "nll_of_softmax": Criterion(Target.CLASSES, _nll_of_softmax),
    "mse": Criterion(Target.REAL, functional.mse_loss, 1.0),
    "l1": Criterion(Target.REAL, functional.l1_loss, math.sqrt(2.0 / math.pi)),
    "smooth_l1": Criterion(Target.REAL, functional.smooth_l1_loss, 0.424660),
    "bce": Criterion(Target.BINARY, _bce, math.log(2.0)),
    "bce_with_logits": Criterion(
        Target.BINARY, functional.binary_cross_entropy_with_logits, math.log(2.0)
    ),
    "output_mean_square": Criterion(Target.NOTHING, _output_mean_square),
}
"""By name. Chance of l1 is E|z| and of smooth_l1 (β = 1) E[z²/2; |z|<1] + E[|z|-½; |z|>1] for a
standard normal z."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss fitted to one model's output."""

    name: str
    """A key of LOSSES."""
    guessed: bool
    """True when it was read off the output and not named by the caller."""
    class_dim: int | None
    """Dimension that holds the classes; None when the target is not classes."""
    classes: int | None
    """Number of classes C ≥ 2; None when the target is not classes."""
    chance: float | None
    """What knowing nothing costs: log C for classes, see `Criterion.chance` for the others."""

    @property
    def kind(self) -> Target:
        """What the output is compared with."""
        return LOSSES[self.name].target

    def target(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        """A random target for an output of this shape: uniform classes (int64, the shape without
        its class dimension), standard normals, fair 0/1, or zeros where none is needed."""
        if self.class_dim is not None and self.classes is not None:
            places = [size for dim, size in enumerate(shape) if dim != self.class_dim]
            return torch.randint(0, self.classes, places, generator=generator)
        if self.kind is Target.REAL:
            return torch.randn(shape, generator=generator, dtype=dtype)
        if self.kind is Target.BINARY:
            return torch.randint(0, 2, shape, generator=generator).to(dtype)
        return torch.zeros((), dtype=dtype)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean loss, a scalar; `target` as `target()` shapes it."""
        if self.class_dim is not None:
            output = output.movedim(self.class_dim, 1)
        return LOSSES[self.name].compute(output, target)


def choose(name: str, output: Tensor, output_op: str | None) -> Loss:
    """The loss named (a key of LOSSES), or `guess` for "auto". Raises ModelRaised."""
    return guess(output, output_op) if name == "auto" else named(name, output)


def guess(output: Tensor, output_op: str | None) -> Loss:
    """The loss that suits an output (B, …) whose last operation is `output_op`.

    sigmoid → bce; (B, 1) and (B,) → mse; log_softmax → nll; softmax → nll of its log (never a
    second softmax); (B, C ≥ 2) → cross_entropy; (B, T, V ≥ 2) → cross_entropy per position;
    anything else → mse.
    """
    return _fit(_guess_name(output, output_op), output, guessed=True)


def named(name: str, output: Tensor) -> Loss:
    """The loss the caller named. Raises ModelRaised when it does not fit the output."""
    if name not in LOSSES:
        raise ModelRaised(f"loss {name!r} is unknown; known are auto, {', '.join(LOSSES)}")
    if name == "bce" and bool(((output < 0) | (output > 1)).any()):
        low, high = output.min().item(), output.max().item()
        raise ModelRaised(
            f"loss 'bce' needs outputs within 0 … 1, this model gives {low:.3g} … {high:.3g}; "
            "use 'bce_with_logits'"
        )
    return _fit(name, output, guessed=False)


def _guess_name(output: Tensor, output_op: str | None) -> str:
    if output_op == "sigmoid":
        return "bce"
    if output.dim() < 2 or _class_count(output) < 2:
        return "mse"
    if output_op in ("log_softmax", "softmax"):
        return "nll" if output_op == "log_softmax" else "nll_of_softmax"
    return "cross_entropy" if output.dim() <= 3 else "mse"


def _fit(name: str, output: Tensor, *, guessed: bool) -> Loss:
    criterion = LOSSES[name]
    if criterion.target is not Target.CLASSES:
        return Loss(name, guessed, None, None, criterion.chance)
    if output.dim() < 2 or _class_count(output) < 2:
        shape = tuple(output.shape)
        raise ModelRaised(
            f"loss {name!r} needs at least two classes in the output, this model gives {shape}"
        )
    classes = _class_count(output)
    return Loss(name, guessed, _class_dim(output), classes, math.log(classes))


def _class_dim(output: Tensor) -> int:
    return 2 if output.dim() == 3 else 1


def _class_count(output: Tensor) -> int:
    return output.shape[_class_dim(output)]
