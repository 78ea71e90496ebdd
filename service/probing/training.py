"""Changes of the training loop: another rate, weight decay, clipping, a loss scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from service.domain.errors import ChangeRefused
from service.domain.probe_plan import OptimizerPlan
from service.probing.losses import Loss

Change = Mapping[str, Any]
"""A recommendation's kind, layers and change, as JSON."""
KINDS = frozenset({"learning_rate", "regularization", "clipping", "loss_scaling"})
"""Kinds that leave the model as it is, but for the dropout that a regularization may lower."""


def is_of_training(change: Change) -> bool:
    """Whether a change leaves the model as it is."""
    return change.get("kind") in KINDS and "dropout" not in change


@dataclass(frozen=True, slots=True)
class Training:
    """What differs from the plan."""

    lr: float | None = None
    """Learning rate, > 0; None: as planned."""
    weight_decay: float = 0.0
    """≥ 0, of matrices and kernels alone: normalizations and biases are spared."""
    clip_norm: float | None = None
    """max_norm of clip_grad_norm_, > 0; None: as planned."""
    loss_scale: float = 1.0
    """What the loss is multiplied by, > 0."""

    def named(self, plan: OptimizerPlan | None) -> OptimizerPlan | None:
        """The optimizer that a plan names, as changed; None where several are tried. Raises
        ChangeRefused for a rate of none of them."""
        if self.lr is None or plan is None:
            if self.lr is not None:
                raise ChangeRefused("a rate is changed of an optimizer that is named")
            return plan
        return replace(plan, lr=self.lr)

    def of(self, attempt: OptimizerPlan) -> OptimizerPlan:
        """One attempt, as changed but for the weight decay, which spares vectors."""
        return attempt if self.clip_norm is None else replace(attempt, clip_norm=self.clip_norm)


PLANNED = Training()
"""Nothing differs."""


def split(changes: Iterable[Change]) -> tuple[tuple[Change, ...], Training]:
    """Changes of the model, and of its training. Raises ChangeRefused for numbers out of range."""
    edits, training = [], PLANNED
    for change in changes:
        kind = change.get("kind")
        if not is_of_training(change):
            edits.append(change)
        elif kind == "learning_rate":
            training = replace(training, lr=_positive(change, "lr"))
        elif kind == "regularization":
            training = replace(training, weight_decay=_positive(change, "weight_decay"))
        elif kind == "clipping":
            training = replace(training, clip_norm=_positive(change, "max_norm"))
        else:
            training = replace(training, loss_scale=_positive(change, "loss_scale"))
    return tuple(edits), training


def _positive(change: Change, name: str) -> float:
    value = change.get(name)
    if not isinstance(value, int | float) or not value > 0:
        raise ChangeRefused(f"{change.get('kind')}: {name} is a number > 0, not {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True)
class ScaledLoss(Loss):
    """A loss times a constant, so that small gradients stay representable."""

    scale: float = 1.0
    """> 0."""

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean loss times the scale, a scalar."""
        return self.scale * Loss.compute(self, output, target)


def scaled(loss: Loss, scale: float) -> ScaledLoss:
    """The same loss, larger."""
    return ScaledLoss(loss.name, loss.guessed, loss.class_dim, loss.classes, loss.chance, scale)
