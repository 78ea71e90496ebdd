"""What takes sizes for expressions: exported programs, and fake tensors, by which the largest specs
are foreseen.

Both import PyTorch's compiler and sympy, which take as long as everything else together: a zygote
warms up for them when it is first asked to, and the rest of the room does without.
"""

from __future__ import annotations

import io

import torch

from service.domain.architecture import resolve
from service.domain.model_source import EXPORTED_PROGRAM
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.child import SMALL_SPEC, whole_job
from service.probing.foresight import sample_bytes
from service.probing.session import Session


def warm_up() -> None:
    """A whole job with a small exported program, and a small spec foreseen; after `child`'s."""
    plan = ProbePlan(inputs=(InputPlan((1, 6, 6)),), batch_size=4)
    sample_bytes(plan, resolve(SMALL_SPEC))
    plan = ProbePlan(batches=2, seeds=1, trial_steps=2)
    whole_job(Session.open(plan, None, _small_program(), model_format=EXPORTED_PROGRAM))


class _SmallProgram(torch.nn.Module):
    """Has a part without gradients and sizes that are reckoned, which are read by code of their
    own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 4)
        self.places: torch.Tensor
        self.register_buffer("places", torch.ones(1, 9, 4), persistent=False)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.embedding(tokens) + self.places[:, : tokens.shape[1]]
        with torch.no_grad():
            seen.mean().relu()
        logits: torch.Tensor = self.head(torch.cat([seen, seen], 1).tanh().mean(1))
        return logits


def _small_program() -> io.BytesIO:
    """A .pt2 file, its batch and length free."""
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=9)}
    tokens = torch.ones(3, 4, dtype=torch.int64)
    program = torch.export.export(_SmallProgram(), (tokens,), dynamic_shapes=(sizes,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return file
