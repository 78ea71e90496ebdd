"""The network of a spec, as far as it has been read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from service.domain.architecture import LayerNode, Sample
from service.domain.grammar.faults import Faults, below
from service.domain.grammar.limits import MAX_INPUTS, Budget
from service.domain.grammar.names import Scope
from service.domain.layers.kinds import shown
from service.domain.layers.signature import hint, quoted
from service.domain.layers.tensor import Inputs, Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer stands."""

    path: str
    """Its dotted name."""
    pointer: str
    """JSON pointer of its entry."""


@dataclass(slots=True)
class Network:
    """What the layers read so far are, and what was wrong with them."""

    faults: Faults = field(default_factory=Faults)
    budget: Budget = field(default_factory=Budget)
    nodes: dict[str, LayerNode] = field(default_factory=dict)
    """By path; a layer at fault leaves none."""
    samples: tuple[Sample, ...] = ()
    tensors: dict[str, Tensor | None] = field(default_factory=dict)
    """Every layer's output; None where a fault hides it."""
    paths: dict[str, str] = field(default_factory=dict)
    """Dotted paths of layers, groups and repetitions → the layer each stands for."""

    def add(self, node: LayerNode) -> None:
        """A layer without fault."""
        self.tensors[node.name] = Tensor(node.output_shape, node.output_dtype)
        self.nodes[node.name] = node

    def stop_if_over(self, limit: str | None, place: Place) -> None:
        """Raises InvalidRequest when a layer breaks a limit of the budget."""
        if limit:
            detail = f"layer `{place.path}` takes the network over the limit of {limit}"
            self.faults.stop(place.pointer, detail)

    def inputs(
        self, entry: dict[str, Any], pointer: str, scope: Scope, default: str
    ) -> tuple[str, ...]:
        """The layers that an entry takes its inputs from; what is none is noted."""
        if "inputs" not in entry:
            return (default,)
        names, pointer = entry["inputs"], below(pointer, "inputs")
        if not isinstance(names, list) or not 0 < len(names) <= MAX_INPUTS:
            self.faults.add(pointer, f"`inputs` must be a list of 1 to {MAX_INPUTS} names")
            return ()
        found = (
            self.source(name, below(pointer, index), scope) for index, name in enumerate(names)
        )
        return tuple(source for source in found if source is not None)

    def source(self, name: Any, pointer: str, scope: Scope) -> str | None:
        """The layer that a name means, or None, which is noted."""
        if not isinstance(name, str):
            self.faults.add(pointer, f"an input is a layer's name, not {shown(name)}")
            return None
        source = scope.find(name) or self.paths.get(name)
        if source is None:
            guess = hint(name, scope.visible())
            self.faults.add(pointer, f"no earlier layer is called {quoted(name)}{guess}")
        return source

    def tensors_of(self, sources: tuple[str, ...]) -> Inputs | None:
        """What layers give; None where there is none, or a fault hides one."""
        found = tuple(one for one in map(self.tensors.get, sources) if one is not None)
        return found if found and len(found) == len(sources) else None
