"""Recurrent cells put in place of others in a recorded graph, where a layer is unrolled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from service.domain.errors import ChangeRefused

ARGUMENTS = frozenset(
    {"input_size", "hidden_size", "num_layers", "bias", "dropout", "bidirectional"}
)
"""What every cell of torch.nn understands, and nothing that a recorded graph could not follow."""


class _OutputsAlone:
    """The outputs of all steps, time first, as torch's own kernels give them."""

    batch_first: bool

    def forward(self, steps: Tensor) -> Tensor:
        """(T, B, features), or (B, T, features) with batch_first → (T, B, hidden)."""
        outputs: Tensor = super().forward(steps)[0]  # type: ignore[misc]
        outputs = outputs.transpose(0, 1) if self.batch_first else outputs
        return outputs.clone()  # what follows may write into it, as it did before


class _RNN(_OutputsAlone, nn.RNN):  # type: ignore[misc]
    pass


class _LSTM(_OutputsAlone, nn.LSTM):  # type: ignore[misc]
    pass


class _GRU(_OutputsAlone, nn.GRU):  # type: ignore[misc]
    pass


CELLS: dict[str, type[nn.RNNBase]] = {"RNN": _RNN, "LSTM": _LSTM, "GRU": _GRU}
"""By their names in torch.nn."""


def maker(change: Mapping[str, Any], layer: str, time_dim: int) -> Callable[[], nn.Module]:
    """What makes the cell that a change names for a layer, drawn anew at every call; `time_dim` is
    the dimension of its input that counts the steps, 0 or 1. Raises ChangeRefused."""
    name, args = str(change.get("cell")), dict(change.get("cell_args", {}).get(layer, {}))
    if name not in CELLS:
        raise ChangeRefused(f"{name!r} is no recurrent layer of torch.nn")
    if unknown := set(args) - ARGUMENTS:
        raise ChangeRefused(f"{name} takes no {min(unknown)!r} here")
    return lambda: CELLS[name](**args, batch_first=time_dim == 1)


def sweep(graph: fx.Graph, replaced: fx.Node, own: Iterable[fx.Node]) -> None:
    """Take away what only led to the node that was replaced, and what its layer computed for
    nobody, writes included: they went into tensors of its own."""
    doomed = {replaced}
    coming = [replaced]
    while coming:
        for source in coming.pop().all_input_nodes:
            if source not in doomed:
                doomed.add(source)
                coming.append(source)
    doomed.update(own)
    # What the first step makes of the initial state depends on no input: it is nobody's own.
    doomed.update(
        node
        for node in graph.nodes
        if not node.users and node.all_input_nodes and doomed.issuperset(node.all_input_nodes)
    )
    for node in reversed(list(graph.nodes)):
        if node in doomed and not node.users and node.op in {"call_function", "get_attr"}:
            graph.erase_node(node)
