"""What a recorded model answers: whether it can be learnt from, and the loss that suits it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from service.domain.errors import NotDifferentiable, Untraceable
from service.probing import losses, operations
from service.probing.losses import Loss
from service.probing.trace import Recording, first_lines, preserved


def loss_for(
    name: str, recording: Recording, buffers: Mapping[str, Tensor], inputs: tuple[Tensor, ...]
) -> tuple[Loss, tuple[int, ...]]:
    """The named loss, or the one that the answer to a batch suggests; and the answer's shape.
    Raises Untraceable when the graph cannot be replayed, NotDifferentiable when no gradient can
    flow, ModelRaised when a named loss does not fit."""
    with preserved(buffers):
        try:
            output = recording.module(*inputs)
        except Exception as error:
            raise Untraceable(
                f"the recorded operations cannot be replayed: {first_lines(error)}"
            ) from error
    if not output.requires_grad and not _input_reaches(recording, buffers, inputs):
        raise NotDifferentiable("no gradient flows from the output to a parameter or an input")
    graph_output = next(iter(reversed(recording.module.graph.nodes))).args[0]
    loss = losses.choose(name, output, operations.output_operation(graph_output))
    return loss, tuple(output.shape)


def _input_reaches(
    recording: Recording, buffers: Mapping[str, Tensor], inputs: tuple[Tensor, ...]
) -> bool:
    """A model without parameters may still pass a gradient to its input."""
    wanted = tuple(t.detach().requires_grad_(t.is_floating_point()) for t in inputs)
    with preserved(buffers):
        return bool(recording.module(*wanted).requires_grad)
