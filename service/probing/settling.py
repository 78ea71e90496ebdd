"""Optimizer steps before a second look, where zeros may only be a beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from service.domain.probe_plan import OptimizerPlan
from service.probing import devices
from service.probing.gradients import gradients_of
from service.probing.loss_scaler import LossScaler, Unscaled
from service.probing.losses import Loss
from service.probing.optimizers import updates
from service.probing.probe import Batch
from service.probing.trainable import Trainable

SETTLING = OptimizerPlan("adam", 1e-3)
"""When the request names none: Adam moves a
zero-initialised branch by its rate whatever the gradient's scale."""


def settle(
    model: Trainable,
    batches: Iterable[Batch],
    loss: Loss,
    optimizer: OptimizerPlan,
    *,
    scales_loss: bool,
    on_step: Callable[[], None],
) -> None:
    """One step on each batch. `scales_loss`: with a loss scale, for float16."""
    parameters = list(model.parameters.values())
    update = updates(parameters, optimizer)
    scaler = LossScaler() if scales_loss else Unscaled()
    for batch in batches:
        devices.seed(batch.seed)
        output = model.forward(*batch.inputs)
        value = loss.compute(output, batch.target(output, loss))
        found = gradients_of(scaler.scaled(value), parameters)
        gradients = [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
        ]
        if scaler.unscale(gradients):
            update(gradients)
        on_step()
