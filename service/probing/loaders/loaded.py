"""What every loader answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from service.probing.devices import CPU
from service.probing.precision import FLOAT32, Precision
from service.probing.trace import Recording, record


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be recorded."""

    format: str
    """spec, torchscript or exported_program."""
    module: nn.Module
    """Called with the inputs."""
    parameters: dict[str, Tensor]
    """By name, as in named_parameters(); every floating-point one requires gradients."""
    buffers: dict[str, Tensor]
    """By name, as in named_buffers()."""
    frozen: frozenset[str] = frozenset()
    """Parameters that came with requires_grad=False (measured as trainable all the same)."""
    fresh: Callable[[], dict[str, Tensor]] | None = None
    """Draws another initialization from torch's generator: values by parameter name; None where
    the file fixes them."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further names of the parameters and buffers that have several → the name above."""
    redrawn: bool = False
    """True when a change draws parameters anew: then even the first seed is a fresh one."""
    notes: tuple[str, ...] = ()
    """What the file fixed, whatever was asked for."""
    precision: Precision = FLOAT32
    """What it is computed in; its parameters are stored as that says."""

    def run(self, *inputs: Tensor) -> Any:
        """What the module answers, computed in its precision."""
        return self.precision.run(self.module, inputs)

    def record(self, inputs: tuple[Tensor, ...]) -> Recording:
        """The graph of one forward pass. Raises ModelRaised, NotDifferentiable."""
        setting = f"in {self.precision.name}" if self.precision.half else ""
        return record(self.run, self.parameters, self.buffers, inputs, setting)


def loaded(
    format: str,  # noqa: A002 - the wire's own word
    module: nn.Module,
    *,
    mode: str,
    dtype: torch.dtype,
    device: torch.device = CPU,
    fresh: Callable[[], dict[str, Tensor]] | None = None,
    notes: tuple[str, ...] = (),
) -> LoadedModel:
    """Cast to `dtype` on `device`, set train or eval mode ("as_saved" leaves it), let every
    parameter learn.

    Parameters and buffers whose elements lie on top of each other (`expand`) get places of their
    own, which is noted: they are written and restored one by one."""
    module._apply(lambda tensor: _cast(tensor, dtype).to(device))
    notes = (*notes, *_laid_out(module))
    if mode != "as_saved":
        module.train(mode == "train")
    parameters = dict(named(module.named_parameters()))
    frozen = frozenset(
        name
        for name, value in parameters.items()
        if not value.requires_grad and value.is_floating_point()
    )
    for name in frozen:
        parameters[name].requires_grad_(True)
    learnable = {name: value for name, value in parameters.items() if value.requires_grad}
    buffers = dict(named(module.named_buffers()))
    rest = {name: value for name, value in parameters.items() if name not in learnable}
    aliases = _further_names(module, {**parameters, **buffers})
    return LoadedModel(
        format, module, learnable, {**buffers, **rest}, frozen, fresh, aliases, notes=notes
    )


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Complex numbers stay complex, at the same width."""
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


@torch.no_grad()
def _laid_out(module: nn.Module) -> Iterator[str]:
    """Notes on the tensors that were laid out anew."""
    for name, tensor in (*named(module.named_parameters()), *named(module.named_buffers())):
        if any(step == 0 and n > 1 for step, n in zip(tensor.stride(), tensor.shape, strict=True)):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
            yield (
                f"expanded: the elements of {name} shared their places in memory; they are "
                "measured and trained as elements of their own"
            )


def _further_names(module: nn.Module, known: Mapping[str, Tensor]) -> dict[str, str]:
    """Shared parameters and buffers: a state dict has each of them under every name."""
    first = {id(tensor): name for name, tensor in known.items()}
    everything = (
        *named(module.named_parameters(remove_duplicate=False)),
        *named(module.named_buffers(remove_duplicate=False)),
    )
    return {
        name: first[id(tensor)]
        for name, tensor in everything
        if name not in known and id(tensor) in first
    }


def named(pairs: Any) -> list[tuple[str, Tensor]]:
    """Name and tensor, ScriptModules' own iterators included."""
    return [(str(name), tensor) for name, tensor in pairs]
