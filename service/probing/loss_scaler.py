"""The loss scale of a training in float16, by the rule of torch.amp.GradScaler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

START = 2.0**16
"""init_scale of torch.amp.GradScaler, as are the following."""
BACKOFF, GROWTH, GROWTH_INTERVAL = 0.5, 2.0, 2000


@dataclass(slots=True)
class LossScaler:
    """Scales the loss, takes the scale out of the gradients, and follows them: halved at a gradient
    that is not finite, whose step is left out, and doubled after 2000 good ones."""

    scale: float = START
    """What the loss is multiplied by, > 0."""
    good: int = 0
    """Steps since the scale last changed."""

    def scaled(self, loss: Tensor) -> Tensor:
        """What to go backward from."""
        return loss * self.scale

    @torch.no_grad()
    def unscale(self, gradients: list[Tensor]) -> bool:
        """In place; whether they are finite, and the step may be taken."""
        if self.scale != 1.0:
            torch._foreach_div_(gradients, self.scale)
        largest = torch.stack(torch._foreach_norm(gradients, float("inf")))
        if not bool(largest.isfinite().all()):
            self.scale, self.good = self.scale * BACKOFF, 0
            return False
        self.good += 1
        if self.good == GROWTH_INTERVAL:
            self.scale, self.good = self.scale * GROWTH, 0
        return True


class Unscaled(LossScaler):
    """Where nobody scales the loss: every step is taken."""

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss."""
        return loss

    def unscale(self, gradients: list[Tensor]) -> bool:  # noqa: ARG002
        """Always."""
        return True
