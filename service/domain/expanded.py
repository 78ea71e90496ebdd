"""An architecture written out so that anyone can build it with torch alone.

Explicit sizes, no groups, unique names without dots that are Python identifiers, every input named;
parameters that are not initialized by a named function keep PyTorch's default.
"""

from __future__ import annotations

from typing import Any

from service.domain.architecture import Architecture, LayerNode
from service.domain.plain_names import plain_names


def expanded(architecture: Architecture) -> dict[str, Any]:
    """The spec of contract "patched_spec": resolving it gives the same network."""
    names = expanded_names(architecture)
    given: dict[str, Any] = {
        "shape": list(architecture.input_shape),
        "dtype": architecture.input_dtype,
    }
    if architecture.input_high is not None:
        given["high"] = architecture.input_high
    return {"input": given, "layers": [_entry(node, names) for node in architecture.layers]}


def expanded_names(architecture: Architecture) -> dict[str, str]:
    """What each layer is called once the network is written out."""
    return plain_names(node.name for node in architecture.layers)


def _entry(node: LayerNode, names: dict[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": names[node.name],
        "type": node.type,
        "args": dict(node.args),
        "inputs": [names.get(source, source) for source in node.inputs],
    }
    if node.init:
        entry["init"] = {
            parameter: {"name": call.name, "args": dict(call.args)}
            for parameter, call in node.init.items()
        }
    return entry
