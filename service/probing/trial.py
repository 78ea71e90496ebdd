"""The short training: does the model learn a task that any healthy model learns quickly?

The task is made of the model's own inputs (`service.probing.batches.ClassTask`): K ≤ 10 classes,
fresh samples at every step, so that nothing can be memorised. What is asked back depends on the
loss: classes → the sample's class at every position of the output; real or binary outputs → the
class's code, low or high per output channel, at every position; an image from an image → what
stands at each place of the class's pattern. Where the caller sent data with answers, the task is
their rows.

The *score* of a batch, taken before the update that uses it, is 0 at chance and 1 when solved:
classes (accuracy - s) / (1 - s) with s the share of the commonest class (1/K when drawn); binary
2·accuracy - 1; real 1 - loss / loss of the best constant; no target 1 - loss / first loss.
`progress` of a run is the best mean score of WINDOW successive steps, within 0 … 1; the run has
`learned` when progress ≥ LEARNED. `accuracy` is that of its last WINDOW steps (classes only).

An optimizer is tried at several rates until one learns (`LADDERS`): the next rate is higher when
the last stayed at chance, lower when the loss blew up, close by when it had begun to learn. A run
ends early when it is solved, when the loss is not finite, and, with SGD, when it is at chance after
PATIENCE steps: Adam, blind to the gradient's size, often leaves chance later than that, and where
it has begun to learn by the last step it goes on for as long again and half. A healthy
model costs about 50 steps in all, one that does not learn about 350, against the hundreds of steps
per rate of a plain grid search.

How to read it: an optimizer trains the model when one of its runs has learned; when none has, but
the best progress is 0.33 or more, it trains it half-way; else it does not. A model whose units all
receive the same gradient stays below 0.33: it sees one direction of the input, and tells two or
three of ten classes by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from service.domain.errors import NotDifferentiable
from service.domain.measurements import Trial, TrialRun
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.probing import devices
from service.probing.batches import ClassTask, class_task, generator_for, stretch
from service.probing.data import Data
from service.probing.devices import CPU, moved
from service.probing.loss_scaler import LossScaler, Unscaled
from service.probing.losses import Loss, Target
from service.probing.optimizers import total_norm, updates
from service.probing.training import PLANNED, Training

CLASSES = 10
"""Classes of the task, where the model and its inputs have room for as many."""
WINDOW = 8
"""Steps over which the score is averaged."""
LEARNED = 0.43
"""Progress from which a run has learned."""
SOLVED = 0.5
"""Mean score at which a run has nothing more to show and ends."""
PATIENCE = {"sgd": 40}
"""Steps after which a run of this optimizer at chance is given up; others go on to the end. Of 161
labelled networks that learn nothing here, what Adam has learned after 100 steps tells those that
need 400 from those that never learn better (area under the curve 0.87) than after 40 (0.81)."""
CHANCE = 0.04
"""A mean score of 2·WINDOW steps below this is chance: 64 samples of 10 classes scatter by 0.01."""
BLOWN_UP = 2.0
"""The loss has blown up when it exceeds its start, or chance where that is more, so many times."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rates at which one optimizer is tried, none of them above one that blew up."""

    first: float
    """Tried first: it suits most models."""
    lower: tuple[float, ...]
    """Tried in this order when the first blew up."""
    higher: tuple[float, ...]
    """Tried in this order when the first stayed at chance."""
    nearby: tuple[float, ...]
    """Tried in this order when the first had begun to learn."""
    begun: float
    """Progress from which a run has begun to learn, 0 … 1."""
    stamina: float
    """Times plan.trial_steps that a run may take which has begun to learn by then, ≥ 1."""


LADDERS: dict[str, Ladder] = {
    "sgd": Ladder(
        0.03, lower=(0.003, 0.01), higher=(0.3, 0.1), nearby=(0.01, 0.1), begun=0.2, stamina=1.0
    ),
    "adam": Ladder(3e-3, lower=(1e-3,), higher=(1e-3,), nearby=(), begun=0.08, stamina=2.5),
}
"""Usual rates by optimizer. Of 115 labelled networks that Adam has begun to train in 100 steps and
SGD has not, 54 are sick: after 100 steps the others look no different, after 250 Adam has learned
nine of the sick ones and 46 of the others. A lower rate, tried instead, learned 4 of 290."""
MOMENTUM = 0.9
"""Of SGD, when the request names no optimizer."""


class Task(Protocol):
    """What is shown."""

    def draw(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """A batch, and the index of each sample's answer, int64 (batch_size,)."""


class Trainable(Protocol):
    """A model that can be trained and put back."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Leaf tensors that require grad, updated in place."""

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Tensors that forward itself may change, such as running means."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """The output for one batch of the recorded size."""

    def reset(self) -> None:
        """Give parameters and buffers their initial values back."""


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
        """0 at chance, 1 when solved (see the module's docstring); may be negative."""
        if self.loss.kind is Target.CLASSES:
            right = output.argmax(self.loss.class_dim or 1).eq(target).float().mean().item()
            return (right - self.lucky) / (1.0 - self.lucky)
        if self.loss.kind is Target.BINARY:
            edge = 0.5 if self.loss.name == "bce" else 0.0
            return 2.0 * (output > edge).eq(target > 0.5).float().mean().item() - 1.0
        chance = self.chance if self.chance is not None else first
        return 1.0 - loss / chance if chance > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """What every run of one trial is taught: the same batches in the same order."""

    task: Task
    """The inputs, and which answer goes with each."""
    goal: Goal
    """The answers asked for."""
    batch_size: int
    """Samples per step, ≥ 1."""
    steps: int
    """Longest run, ≥ 0, but for one of the usual attempts that is on its way by then."""
    seed: int
    """Root of all randomness."""
    training: Training = PLANNED
    """How each attempt differs from what its optimizer is usually told."""
    on_step: Callable[[], None] = lambda: None
    """Told of every step of every run."""
    scales_loss: bool = False
    """Whether the loss is scaled, as torch.amp.GradScaler does."""


def run(
    model: Trainable,
    plan: ProbePlan,
    inputs: tuple[InputPlan, ...],
    loss: Loss,
    *,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
    data: Data | None = None,
    training: Training = PLANNED,
    on_step: Callable[[], None] = lambda: None,
    scales_loss: bool = False,
) -> Trial:
    """Train `model` for at most plan.trial_steps at each rate and put it back.

    `inputs`, `batch_size` and `dtype` (of floating inputs) are those the model was recorded with.
    `on_step` is told of every step. `scales_loss`: with a loss scale that follows the gradients,
    for float16.
    The numbers depend on the model and plan.seed alone. Raises NotDifferentiable when no gradient
    reaches a parameter, and what `on_step` raises.
    """
    try:
        if data is not None and data.answers is not None:
            course = _given(model, plan, data, loss, batch_size)
        else:
            course = _course(model, plan, inputs, loss, batch_size=batch_size, dtype=dtype)
        course = replace(course, training=training, on_step=on_step, scales_loss=scales_loss)
        attempt = training.named(plan.optimizer)
        if attempt is not None:
            runs = [_train(model, course, attempt)]
        else:
            runs = [run for name in LADDERS for run in _climb(model, course, name)]
    finally:
        model.reset()
    return Trial(_name(course), plan.trial_steps, tuple(runs))


def _name(course: Course) -> str:
    if isinstance(course.task, RowTask):
        return "data"
    classes = course.goal.loss.kind is Target.CLASSES
    return "gaussian_classes" if classes else "code_regression"


def _climb(model: Trainable, course: Course, name: str) -> Iterator[TrialRun]:
    """One optimizer's runs, up to the first that learned."""
    ladder = LADDERS[name]
    momentum = MOMENTUM if name == "sgd" else 0.0
    done = _train(model, course, OptimizerPlan(name, ladder.first, momentum), ladder)
    yield done
    blown = ladder.first if _blew_up(done, course.goal) else math.inf
    for rate in _next_rates(ladder, done, course.goal):
        if done.learned:
            return
        if rate < blown:
            done = _train(model, course, OptimizerPlan(name, rate, momentum), ladder)
            yield done
            blown = rate if _blew_up(done, course.goal) else blown


def _next_rates(ladder: Ladder, done: TrialRun, goal: Goal) -> tuple[float, ...]:
    if _blew_up(done, goal):
        return ladder.lower
    return ladder.nearby if done.progress >= ladder.begun else ladder.higher


def _blew_up(done: TrialRun, goal: Goal) -> bool:
    if not done.loss or done.loss[0] is None:
        return True
    limit = BLOWN_UP * max(done.loss[0], goal.chance or 0.0)
    return any(loss is None or loss > limit for loss in done.loss)


def _course(
    model: Trainable,
    plan: ProbePlan,
    inputs: tuple[InputPlan, ...],
    loss: Loss,
    *,
    batch_size: int,
    dtype: torch.dtype,
) -> Course:
    """Draw the task once; the codes lie within the range that the output can take."""
    classes = CLASSES if loss.classes is None else min(CLASSES, loss.classes)
    task = class_task(inputs, classes, generator_for(plan.seed, "trial", "classes"), dtype)
    model.reset()
    shown, _ = task.draw(batch_size, generator_for(plan.seed, "trial", "range"))
    output = model.forward(*moved(shown, _device(model)))
    if not output.requires_grad:
        raise NotDifferentiable("the output does not depend on any parameter through gradients")
    goal = _goal(loss, task, output.detach().cpu(), generator_for(plan.seed, "trial", "answers"))
    return Course(task, goal, batch_size, plan.trial_steps, plan.seed)


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


def _given(model: Trainable, plan: ProbePlan, data: Data, loss: Loss, batch_size: int) -> Course:
    """The task that data with answers sets. Raises ModelRaised when the answers do not fit."""
    model.reset()
    shown, _ = RowTask(data).draw(batch_size, generator_for(plan.seed, "trial", "range"))
    output = model.forward(*moved(shown, _device(model))).detach().cpu()
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
    return Course(RowTask(data), goal, batch_size, plan.trial_steps, plan.seed)


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


def _train(
    model: Trainable, course: Course, attempt: OptimizerPlan, ladder: Ladder | None = None
) -> TrialRun:
    """One run; without a ladder, for exactly so many steps, at most."""
    losses: list[float] = []
    norms: list[float] = []
    scores: list[float] = []
    with torch.random.fork_rng(devices=[]):
        devices.seed(course.seed)
        longest = int(course.steps * ladder.stamina) if ladder else course.steps
        for loss, norm, score in islice(_steps(model, course, attempt), longest):
            losses.append(loss)
            norms.append(norm)
            scores.append(score)
            course.on_step()
            if _is_over(losses, scores, PATIENCE.get(attempt.name, course.steps)):
                break
            if ladder and len(scores) == course.steps and _progress(scores) < ladder.begun:
                break
    progress = _progress(scores)
    is_class = course.goal.loss.kind is Target.CLASSES
    return TrialRun(
        optimizer=attempt.name,
        lr=attempt.lr,
        loss=tuple(_finite(loss) for loss in losses),
        grad_norm=tuple(_finite(norm) for norm in norms),
        accuracy=_accuracy(scores, course.goal.lucky) if is_class and scores else None,
        learned=progress >= LEARNED,
        progress=progress,
    )


def _device(model: Trainable) -> torch.device:
    """Where it computes."""
    return next((value.device for value in model.parameters.values()), CPU)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _is_over(losses: list[float], scores: list[float], patience: int) -> bool:
    if not math.isfinite(losses[-1]) or _recent(scores) >= SOLVED:
        return True
    return len(scores) >= patience and sum(scores[-2 * WINDOW :]) / (2 * WINDOW) < CHANCE


def _recent(scores: list[float]) -> float:
    return sum(scores[-WINDOW:]) / WINDOW if len(scores) >= WINDOW else 0.0


def _progress(scores: list[float]) -> float:
    best = max((_recent(scores[:end]) for end in range(1, len(scores) + 1)), default=0.0)
    return min(max(best, 0.0), 1.0)


def _accuracy(scores: list[float], lucky: float) -> float:
    recent = scores[-WINDOW:]
    return lucky + (1.0 - lucky) * sum(recent) / len(recent)


def _steps(
    model: Trainable, course: Course, attempt: OptimizerPlan
) -> Iterator[tuple[float, float, float]]:
    """Loss, total gradient norm and score of each batch, before it is learned from."""
    model.reset()
    parameters = list(model.parameters.values())
    update = updates(parameters, course.training.of(attempt), course.training.weight_decay)
    generator = generator_for(course.seed, "trial", "batches")
    goal, first, device = course.goal, math.nan, _device(model)
    scaler = LossScaler() if course.scales_loss else Unscaled()
    while True:
        inputs, labels = course.task.draw(course.batch_size, generator)
        output = model.forward(*moved(inputs, device))
        target = goal.answers[labels].to(device)
        loss = goal.loss.compute(output, target)
        value = loss.item()
        first = value if math.isnan(first) else first
        gradients = list(
            torch.autograd.grad(
                scaler.scaled(loss), parameters, allow_unused=True, materialize_grads=True
            )
        )
        may_step = scaler.unscale(gradients)
        yield value, total_norm(gradients).item(), goal.score(output.detach(), target, value, first)
        if may_step:
            update(gradients)
