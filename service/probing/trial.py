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
from dataclasses import dataclass
from itertools import islice

import torch

from service.domain.measurements import Trial, TrialRun
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.probing import devices
from service.probing.batches import generator_for
from service.probing.data import Data
from service.probing.devices import moved
from service.probing.loss_scaler import LossScaler, Unscaled
from service.probing.losses import Loss, Target
from service.probing.optimizers import total_norm, updates
from service.probing.task import Goal, RowTask, Task, drawn, given
from service.probing.trainable import Trainable, device_of
from service.probing.training import PLANNED, Training

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
    rates: Mapping[str, float] | None = None,
    on_step: Callable[[], None] = lambda: None,
    scales_loss: bool = False,
) -> Trial:
    """Train `model` for at most plan.trial_steps at each rate and put it back.

    `rates`: optimizer → the one rate it is tried at, where the plan names no optimizer.
    `inputs`, `batch_size` and `dtype` (of floating inputs) are those the model was recorded with.
    `on_step` is told of every step. `scales_loss`: with a loss scale that follows the gradients,
    for float16.
    The numbers depend on the model and plan.seed alone. Raises NotDifferentiable when no gradient
    reaches a parameter, and what `on_step` raises.
    """
    try:
        if data is not None and data.answers is not None:
            task, goal = given(model, plan, data, loss, batch_size)
        else:
            task, goal = drawn(model, plan, inputs, loss, batch_size=batch_size, dtype=dtype)
        course = Course(
            task,
            goal,
            batch_size=batch_size,
            steps=plan.trial_steps,
            seed=plan.seed,
            training=training,
            on_step=on_step,
            scales_loss=scales_loss,
        )
        attempt = training.named(plan.optimizer)
        if attempt is not None:
            runs = [_train(model, course, attempt)]
        elif rates:
            runs = [_at(model, course, name, rate) for name, rate in rates.items()]
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
    done = _at(model, course, name, ladder.first)
    yield done
    blown = ladder.first if _blew_up(done, course.goal) else math.inf
    for rate in _next_rates(ladder, done, course.goal):
        if done.learned:
            return
        if rate < blown:
            done = _at(model, course, name, rate)
            yield done
            blown = rate if _blew_up(done, course.goal) else blown


def _at(model: Trainable, course: Course, name: str, rate: float) -> TrialRun:
    """One optimizer's run at one rate."""
    momentum = MOMENTUM if name == "sgd" else 0.0
    return _train(model, course, OptimizerPlan(name, rate, momentum), LADDERS[name])


def _next_rates(ladder: Ladder, done: TrialRun, goal: Goal) -> tuple[float, ...]:
    if _blew_up(done, goal):
        return ladder.lower
    return ladder.nearby if done.progress >= ladder.begun else ladder.higher


def _blew_up(done: TrialRun, goal: Goal) -> bool:
    if not done.loss or done.loss[0] is None:
        return True
    limit = BLOWN_UP * max(done.loss[0], goal.chance or 0.0)
    return any(loss is None or loss > limit for loss in done.loss)


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


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _is_over(losses: list[float], scores: list[float], patience: int) -> bool:
    if not math.isfinite(losses[-1]) or _recent(scores) >= SOLVED:
        return True
    return len(scores) >= patience and sum(scores[-2 * WINDOW :]) / (2 * WINDOW) < CHANCE


def _recent(scores: list[float]) -> float:
    return sum(scores[-WINDOW:]) / WINDOW if len(scores) >= WINDOW else 0.0


def _progress(scores: list[float]) -> float:
    best = max(
        (_recent(scores[max(end - WINDOW, 0) : end]) for end in range(1, len(scores) + 1)),
        default=0.0,
    )
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
    goal, first, device = course.goal, math.nan, device_of(model)
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
