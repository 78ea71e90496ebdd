"""The forms in which a member is sent: as a spec, and as TorchScript traced and scripted."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from benchmarks.score import InProcessSession
from service.domain.architecture import resolve
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.domain.request import ModelRequest
from service.probing.pace import Pace
from service.probing.session import Session

FORMS = ("spec", "traced", "scripted")
STORED = "sha256:" + "0" * 64
"""The id of whatever file is sent along."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A model as it would be sent; a prober of its own, in this process: our models alone."""

    request: ModelRequest
    source: ModelSource
    file: bytes | None
    """TorchScript, or a spec's weights."""

    @contextmanager
    def open(
        self,
        source: ModelSource,
        plan: ProbePlan,
        tell: Callable[[float], None] = lambda _: None,
    ) -> Iterator[InProcessSession]:
        """Load and record the model."""
        if isinstance(source, SpecSource):
            session = Session.open(
                plan, source.architecture, None, weights=self.file, pace=Pace(tell)
            )
        else:
            session = Session.open(plan, None, io.BytesIO(self.file or b""), pace=Pace(tell))
        yield InProcessSession(session)


def as_spec(spec: dict[str, Any], trained: nn.Module | None) -> Sent:
    """A spec, and its weights once it was trained."""
    weights = None if trained is None else _weights(trained)
    weights_id = None if weights is None else STORED
    request = ModelRequest("spec", spec, weights_id=weights_id)
    return Sent(request, SpecSource(resolve(spec), weights_id), weights)


def as_torchscript(form: str, module: nn.Module, example: Tensor) -> Sent:
    """The module saved as it is, traced or scripted in train mode."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # torch.jit is deprecated for writing; people's files are there all the same.
        warnings.simplefilter("ignore")
        if form == "traced":
            made = torch.jit.trace(module, (example,), check_trace=False)
        else:
            made = torch.jit.script(module)
        torch.jit.save(made, file)
    request = ModelRequest("artifact", artifact_id=STORED)
    return Sent(request, ArtifactSource(STORED, "torchscript"), file.getvalue())


def _weights(module: nn.Module) -> bytes:
    """Every parameter and buffer, a safetensors file."""
    state = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    content: bytes = save(state)
    return content
