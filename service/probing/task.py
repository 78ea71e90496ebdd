"""The task of a short training: what is shown, and what is asked back (see
`service.probing.trial`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from service.domain.errors import NotDifferentiable
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.batches import ClassTask, class_task, generator_for, stretch
from service.probing.data import Data
from service.probing.devices import moved
from service.probing.losses import Loss, Target
from service.probing.trainable import Trainable, device_of

CLASSES = 10
"""Classes of the task, where the model and its inputs have room for as many."""


class Task(Protocol):
    """What is shown."""

    def draw(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """A batch, and the index of each sample's answer, int64 (batch_size,)."""


@dataclass(frozen=True, slots=True)
class RowTask:
    """The caller's own rows; the index of a row's answer is the row."""

    data: Data

    def draw(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """A random batch of rows."""
        rows = self.data.rows(batch_size, generator)
        return self.data.batch(rows), rows


@dataclass(frozen=True, slots=True)
class Goal:
    """What the model is to answer, and how well it does."""

    loss: Loss
    """What is minimised."""
    answers: Tensor
    """Per class (per row of given data) the target of a sample, (K, …) as the loss wants it."""
    lucky: float
    """Accuracy of always answering the commonest class, 0 … 1; 0 where there are no classes."""
    chance: float | None
    """Loss of the best constant answer; None: the first loss counts as chance."""

    def score(self, output: Tensor, target: Tensor, loss: float, first: float) -> float:
        """0 at chance, 1 when solved (see `service.probing.trial`); may be negative."""
        if self.loss.kind is Target.CLASSES:
            right = output.argmax(self.loss.class_dim or 1).eq(target).float().mean().item()
            return (right - self.lucky) / (1.0 - self.lucky)
        if self.loss.kind is Target.BINARY:
            edge = 0.5 if self.loss.name == "bce" else 0.0
            return 2.0 * (output > edge).eq(target > 0.5).float().mean().item() - 1.0
        chance = self.chance if self.chance is not None else first
        return 1.0 - loss / chance if chance > 0 else 0.0


def drawn(
    model: Trainable,
    plan: ProbePlan,
    inputs: tuple[InputPlan, ...],
    loss: Loss,
    *,
    batch_size: int,
    dtype: torch.dtype,
) -> tuple[Task, Goal]:
    """Draw the task once; the codes lie within the range that the output can take."""
    classes = CLASSES if loss.classes is None else min(CLASSES, loss.classes)
    task = class_task(inputs, classes, generator_for(plan.seed, "trial", "classes"), dtype)
    model.reset()
    shown, _ = task.draw(batch_size, generator_for(plan.seed, "trial", "range"))
    output = model.forward(*moved(shown, device_of(model)))
    if not output.requires_grad:
        raise NotDifferentiable("the output does not depend on any parameter through gradients")
    goal = _goal(loss, task, output.detach().cpu(), generator_for(plan.seed, "trial", "answers"))
    return task, goal


def given(
    model: Trainable, plan: ProbePlan, data: Data, loss: Loss, batch_size: int
) -> tuple[Task, Goal]:
    """The task that data with answers sets. Raises ModelRaised when the answers do not fit."""
    model.reset()
    shown, _ = RowTask(data).draw(batch_size, generator_for(plan.seed, "trial", "range"))
    output = model.forward(*moved(shown, device_of(model))).detach().cpu()
    # The answers to all rows are shaped as the output to all rows would be.
    everything = output[:1].expand(len(data), *output.shape[1:])
    answers = data.targets(torch.arange(len(data)), loss, everything)
    if answers is None:
        raise ValueError("the data has no answers")
    if loss.kind is Target.CLASSES:
        shares = torch.bincount(answers.reshape(-1)).double() / answers.numel()
        present = shares[shares > 0]
        # Data of one class alone teaches nothing that accuracy could show.
        lucky = min(present.max().item(), 1.0 - 1e-6)
        goal = Goal(loss, answers, lucky, -(present * present.log()).sum().item())
    else:
        constant = answers.mean(0, keepdim=True).expand_as(answers)
        goal = Goal(loss, answers, 0.0, loss.compute(constant, answers).item())
    return RowTask(data), goal


def _goal(loss: Loss, task: ClassTask, output: Tensor, generator: torch.Generator) -> Goal:
    if loss.kind is Target.CLASSES:
        places = [size for dim, size in enumerate(output.shape) if dim not in (0, loss.class_dim)]
        indices = torch.arange(task.classes).view(-1, *(1 for _ in places))
        lucky = 1.0 / task.classes
        return Goal(loss, indices.expand(-1, *places), lucky, math.log(task.classes))
    if loss.kind is Target.NOTHING:
        return Goal(loss, torch.zeros(task.classes), 0.0, None)
    low = 0.0 if loss.kind is Target.BINARY or bool((output >= 0).all()) else -1.0
    codes, constant = _codes(task, output, low, generator)
    return Goal(loss, codes, 0.0, loss.compute(constant, codes).item())


def _codes(
    task: ClassTask, output: Tensor, low: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What a sample of each class is answered with, `low` or 1 in equal parts per channel, and the
    best constant answer; both (K, *output.shape[1:])."""
    shape = tuple(output.shape[1:])
    channel = 2 if len(shape) == 2 else 1
    field = _field(task, shape or (1,), channel, generator).movedim(channel, -1)
    codes = torch.where(field > field.flatten(0, -2).median(0).values, 1.0, low).to(output.dtype)
    constant = codes.flatten(0, -2).mean(0).expand_as(codes)
    codes, constant = (each.movedim(-1, channel) for each in (codes, constant))
    return codes.reshape(task.classes, *shape), constant.reshape(task.classes, *shape)


def _field(
    task: ClassTask, shape: tuple[int, ...], channel: int, generator: torch.Generator
) -> Tensor:
    """(K, *shape). An image answered with an image asks for what stands at each place (the class
    means, their channels mixed at random), which a convolution can tell from the neighbourhood;
    any other output asks for a random code of the class, the same at every position."""
    channels = shape[channel - 1]
    for pattern in task.patterns:
        if len(shape) >= 3 and pattern.dim() == len(shape) + 1:
            mix = torch.randn((channels, pattern.shape[1]), generator=generator)
            seen = stretch(pattern, shape[1:])
            return torch.einsum("kc...,oc->ko...", seen, mix.to(seen.dtype))
    codes = torch.randn((task.classes, channels), generator=generator)
    places = [channels if dim == channel else 1 for dim in range(1, len(shape) + 1)]
    return codes.view(task.classes, *places).expand(-1, *shape)
