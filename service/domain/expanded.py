"""An architecture written out so that anyone can build it with torch alone.

Explicit sizes, no groups, unique names without dots that are Python identifiers, every input named;
parameters that are not initialized by a named function keep PyTorch's default.
"""

from __future__ import annotations

from typing import Any

from service.domain.architecture import Architecture, LayerNode, Sample
from service.domain.grammar.names import INPUT
from service.domain.plain_names import plain_names


def expanded(architecture: Architecture) -> dict[str, Any]:
    """The spec of contract "patched_spec": resolving it gives the same network."""
    names = expanded_names(architecture)
    several = len(architecture.inputs) > 1
    given = [_sample(sample, names if several else {}) for sample in architecture.inputs]
    return {
        "input": given if several else given[0],
        "layers": [_entry(node, names) for node in architecture.layers],
    }


def expanded_names(architecture: Architecture) -> dict[str, str]:
    """What each layer is called once the network is written out, and each of several inputs."""
    inputs = (sample.name for sample in architecture.inputs if sample.name != INPUT)
    return plain_names((*inputs, *(node.name for node in architecture.layers)))


def _sample(sample: Sample, names: dict[str, str]) -> dict[str, Any]:
    written: dict[str, Any] = {"name": names[sample.name]} if names else {}
    written |= {"shape": list(sample.shape), "dtype": sample.dtype}
    return written if sample.high is None else {**written, "high": sample.high}


def _entry(node: LayerNode, names: dict[str, str]) -> dict[str, Any]:
    inputs = [names.get(source, source) for source in node.inputs]
    if node.shares is not None:
        return {"name": names[node.name], "shares": names[node.shares], "inputs": inputs}
    entry: dict[str, Any] = {
        "name": names[node.name],
        "type": node.type,
        "args": dict(node.args),
        "inputs": inputs,
    }
    if node.init:
        entry["init"] = {
            parameter: {"name": call.name, "args": dict(call.args)}
            for parameter, call in node.init.items()
        }
    if node.parametrizations:
        entry["parametrizations"] = {
            parameter: {"name": how.name, "args": dict(how.args)}
            for parameter, how in node.parametrizations.items()
        }
    if node.forward:
        entry["forward"] = dict(node.forward)
    return entry
