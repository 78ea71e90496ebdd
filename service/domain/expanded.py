"""An architecture written out so that anyone can build it with torch alone.

Explicit sizes, no groups, unique names without dots, every input named; parameters that are not
initialized by a named function keep PyTorch's default.
"""

from __future__ import annotations

from typing import Any

from service.domain.architecture import Architecture, LayerNode


def expanded(architecture: Architecture) -> dict[str, Any]:
    """The spec of contract "patched_spec": resolving it gives the same network."""
    names = _plain_names(architecture)
    given: dict[str, Any] = {
        "shape": list(architecture.input_shape),
        "dtype": architecture.input_dtype,
    }
    if architecture.input_high is not None:
        given["high"] = architecture.input_high
    return {"input": given, "layers": [_entry(node, names) for node in architecture.layers]}


def _entry(node: LayerNode, names: dict[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": names[node.name],
        "type": node.type,
        "args": dict(node.args),
        "inputs": [names[source] for source in node.inputs],
    }
    if node.init:
        entry["init"] = {
            parameter: {"name": call.name, "args": dict(call.args)}
            for parameter, call in node.init.items()
        }
    return entry


def _plain_names(architecture: Architecture) -> dict[str, str]:
    """body.0.conv → body_0_conv; a number is added where that name is taken."""
    plain = {"input": "input"}
    taken = {"input"}
    for node in architecture.layers:
        name = wanted = node.name.replace(".", "_")
        count = 2
        while name in taken:
            name, count = f"{wanted}_{count}", count + 1
        taken.add(name)
        plain[node.name] = name
    return plain
