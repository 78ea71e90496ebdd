"""The module that runs an exported program's graph over the file's tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import (
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    TensorArgument,
)

from service.domain.errors import ModelRaised
from service.probing.loaders.exported_archive import Saved


class ExportedModule(nn.Module):
    """Calls the program's graph with its parameters, buffers and constants."""

    def __init__(
        self,
        graph: fx.GraphModule,
        signature: ExportGraphSignature,
        saved: Saved,
        logits: int | None = None,
    ):
        """`logits`: which of several answers is the model's, where one is called so."""
        super().__init__()
        self._logits = logits
        self._graph = (graph,)  # in a tuple, its subgraphs are no modules of this one
        self._signature = signature
        self._rewritten = frozenset(signature.buffers_to_mutate.values())
        self._places = {
            spec.arg.name: _place(self, spec, saved)
            for spec in signature.input_specs
            if spec.target is not None
        }

    def forward(self, *inputs: Tensor) -> Any:
        given = iter(inputs)
        arguments = [self._argument(spec, given) for spec in self._signature.input_specs]
        outputs = self._graph[0](*arguments)
        return self._answers(outputs)

    def _argument(self, spec: InputSpec, given: Iterator[Tensor]) -> Any:
        if isinstance(spec.arg, ConstantArgument):
            return spec.arg.value
        if spec.kind is InputKind.USER_INPUT:
            return next(given)
        owner, name = self._places[spec.arg.name]
        if spec.target in self._rewritten:
            # Its backward pass wants the old value, which is overwritten at the end.
            return owner[name].clone()
        return owner[name]

    def _answers(self, outputs: Any) -> Any:
        """What the model returned; buffers that it gives back changed are changed here."""
        answers = []
        for spec, value in zip(self._signature.output_specs, outputs, strict=True):
            if spec.kind is OutputKind.BUFFER_MUTATION:
                self._write(str(spec.target), value)
            elif spec.kind in (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT):
                answers.append(value)
        if self._logits is not None and self._logits < len(answers):
            return answers[self._logits]
        return answers[0] if len(answers) == 1 else tuple(answers)

    @torch.no_grad()
    def _write(self, name: str, value: Tensor) -> None:
        dict(self.named_buffers())[name].copy_(value)


def _place(module: nn.Module, spec: InputSpec, saved: Saved) -> tuple[dict[str, Any], str]:
    """Put the tensor that an argument stands for into the module, under its own name."""
    if not isinstance(spec.arg, TensorArgument):
        raise ModelRaised(f"the program needs {spec.target}, which is not a tensor")
    name = str(spec.target)
    stored = saved.weights if name in saved.weights else saved.constants
    if name not in stored:
        raise ModelRaised(f"the file has no tensor {name}")
    tensor = stored[name]
    *path, leaf = name.split(".")
    for part in path:
        module = module._modules.setdefault(part, nn.Module())  # type: ignore[assignment]
    if spec.kind is not InputKind.PARAMETER:
        module._buffers[leaf] = tensor
        return module._buffers, leaf
    if not isinstance(tensor, nn.Parameter):
        tensor = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
    module._parameters[leaf] = tensor
    return module._parameters, leaf
