"""Where a probe's batches come from: rows of the caller's data, or drawn as the plan says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from service.domain.probe_plan import ProbePlan
from service.probing.batches import draw, generator_for
from service.probing.data import Data
from service.probing.devices import CPU, moved
from service.probing.losses import Loss
from service.probing.probe import Batch

PILOT = (0, -1)
"""Place of the batches that only try the model out."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Batches by place (seed, number): the same place gives the same batch, in any order."""

    plan: ProbePlan
    """Its inputs and seed."""
    dtype: torch.dtype
    """Of floating inputs."""
    data: Data | None
    """None: inputs and targets are drawn."""
    device: torch.device = CPU
    """Where they go."""

    def inputs(self, samples: int, seed: int, number: int) -> tuple[Tensor, ...]:
        """One tensor (samples, *shape) per model input."""
        if self.data is not None:
            drawn = self.data.batch(self._rows(self.data, samples, seed, number))
            return moved(drawn, self.device)
        generator = generator_for(self.plan.seed, "inputs", seed, number)
        return moved(draw(self.plan.inputs, samples, generator, self.dtype), self.device)

    def batch(self, samples: int, seed: int, number: int) -> Batch:
        """Inputs, target and noise of one pass."""

        def target(output: Tensor, loss: Loss) -> Tensor:
            if self.data is not None:
                rows = self._rows(self.data, samples, seed, number)
                answers = self.data.targets(rows, loss, output)
                if answers is not None:
                    return answers.to(output.device)
            generator = generator_for(self.plan.seed, "target", seed, number)
            return loss.target(output.shape, output.dtype, generator).to(output.device)

        noise = generator_for(self.plan.seed, "noise", seed, number).initial_seed()
        return Batch(self.inputs(samples, seed, number), noise, target)

    def _rows(self, data: Data, samples: int, seed: int, number: int) -> Tensor:
        return data.rows(samples, generator_for(self.plan.seed, "inputs", seed, number))
