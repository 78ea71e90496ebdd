"""Is the recorded graph the model? Branches that depend on data are recorded without an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from service.domain.errors import ModelRaised
from service.probing import devices
from service.probing.gradients import gradients_of
from service.probing.loaders.loaded import LoadedModel
from service.probing.losses import Loss
from service.probing.probe import Batch
from service.probing.trace import Recording, first_lines, preserved, primary_output


def is_faithful(
    model: LoadedModel, recording: Recording, batches: Iterable[Batch], loss: Loss
) -> bool:
    """True when the graph gives the model's own output on every batch, and its own gradients on
    the first. Raises ModelRaised when the model does."""
    for number, batch in enumerate(batches):
        try:
            own = _answers(model.run, model, batch, loss, gradients=number == 0)
        except (RuntimeError, IndexError, ValueError) as error:
            raise ModelRaised(first_lines(error)) from error
        try:
            ours = _answers(recording.module, model, batch, loss, gradients=number == 0)
        except (RuntimeError, IndexError, ValueError):
            return False
        if len(own) != len(ours) or not all(map(_same, own, ours)):
            return False
    return True


def _answers(
    forward: Callable[..., Any], model: LoadedModel, batch: Batch, loss: Loss, *, gradients: bool
) -> tuple[Tensor | None, ...]:
    """Output and, when asked for, the gradient of every parameter."""
    # Also without gradients as when it was recorded: a product of matrices is reckoned in another
    # order, and so differs in its last bits, when none is wanted.
    with preserved(model.buffers), torch.enable_grad():
        devices.seed(batch.seed)
        output = primary_output(forward(*batch.inputs))
        if not (gradients and output.requires_grad):
            return (output.detach(),)
        value = loss.compute(output, batch.target(output, loss))
        return (output.detach(), *gradients_of(value, list(model.parameters.values())))


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Equal bit for bit, NaN counting as equal to NaN."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(
        torch.isclose(one, other, rtol=0.0, atol=0.0, equal_nan=True).all()
    )
