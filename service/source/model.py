"""The whole text: imports, one class, its layers with their initialization, its forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import indent
from typing import Any

from service.domain.architecture import Architecture, resolve
from service.source.calls import construction, initializations, parametrizations
from service.source.formatting import formatted
from service.source.forward import WITHOUT_MODULE, Forward
from service.source.own_classes import NEED_TORCH, OWN_CLASSES

CLASS = "RepairedModel"


def pytorch_source(expanded: Mapping[str, Any]) -> str:
    """Source of `class RepairedModel(nn.Module)` that builds an expanded spec.

    At the same seed it draws the same parameters as the spec's own network: layer by layer, first
    PyTorch's default, then the functions that `init` names. Its state dict has the layers' names.
    """
    architecture = resolve(expanded)
    forward = Forward(architecture)
    types = {node.type for node in architecture.layers}
    body = [
        *_imports(types),
        *(text for name, text in OWN_CLASSES.items() if name in types),
        f"class {CLASS}(nn.Module):",
        f'    """{_shapes(architecture)}"""\n',
        "    def __init__(self) -> None:",
        *_inside(("super().__init__()", *_layers(architecture))),
        f"\n    def forward(self, {', '.join(forward.arguments)}) -> Tensor:",
        *_inside(forward.statements()),
    ]
    return formatted("\n".join(body) + "\n")


def _imports(types: set[str]) -> Iterable[str]:
    yield '"""The repaired model: the architecture, and how its parameters are drawn."""\n'
    if types & NEED_TORCH:
        yield "import torch"
    yield "from torch import Tensor, nn\n"


def _shapes(architecture: Architecture) -> str:
    ends = (*(one.shape for one in architecture.inputs), architecture.layers[-1].output_shape)
    *takes, gives = (f"({', '.join(map(str, ('batch', *shape)))})" for shape in ends)
    return f"{', '.join(takes)} → {gives}."


def _layers(architecture: Architecture) -> Iterable[str]:
    for node in architecture.layers:
        if node.type not in WITHOUT_MODULE and node.shares is None:
            attribute = f"self.{node.name}"
            yield f"{attribute} = {construction(node.type, node.args)}"
            yield from initializations(node, attribute)
            yield from parametrizations(node, attribute)


def _inside(statements: Iterable[str]) -> Iterable[str]:
    return (indent(statement, " " * 8) for statement in statements)
