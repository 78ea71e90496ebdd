"""A network with a probe on it, and the same bare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.performance.models import Network
from service.domain.probe_plan import ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.probe import Seed
from service.probing.recorder import Observed
from service.probing.session import Session


@dataclass(frozen=True, slots=True)
class Watched:
    """Both run the same batch of the same model."""

    model: nn.Module
    session: Session
    seed: Seed

    @classmethod
    def of(cls, network: Network) -> Watched:
        """Recorded once, as a probe does."""
        model = network.made()
        plan = ProbePlan(inputs=(network.input,), batch_size=network.batch_size, trial_steps=0)
        session = Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)
        observed = Observed(session.recording, session.layers)
        return cls(model, session, Seed(observed, session.recording))

    def loss(self, model: nn.Module) -> Tensor:
        """Of the first batch."""
        batch, loss = self.session.batch(0, 0), self.session.loss
        output = model(*batch.inputs)
        return loss.compute(output, batch.target(output, loss))

    def bare(self) -> None:
        """One forward and backward pass of the model as it is."""
        torch.autograd.grad(self.loss(self.model), list(self.model.parameters()))

    def probe(self) -> None:
        """The same with every statistic of a probe."""
        self.seed.run(self.session.batch(0, 0), self.session.loss)


def status_mb(field: str) -> float:
    """Of /proc/self/status: VmRSS, VmHWM …, MiB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"{field}:")[2].split()[0]) / 1024
