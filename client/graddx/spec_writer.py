"""From a torch.nn.Module to an architecture spec, where it can be said, and the places where it
cannot. Torch is imported only when it is called."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graddx.errors import InvalidInput

if TYPE_CHECKING:
    from torch import fx, nn

MERGES = {"add": "Add", "iadd": "Add", "mul": "Multiply", "imul": "Multiply", "matmul": "MatMul"}
"""Functions of several tensors, by name: the type that a spec has for them."""
CALLED = {
    "relu": "ReLU", "relu_": "ReLU", "tanh": "Tanh", "tanh_": "Tanh", "sigmoid": "Sigmoid",
    "sigmoid_": "Sigmoid", "gelu": "GELU", "silu": "SiLU", "elu": "ELU", "selu": "SELU",
    "relu6": "ReLU6", "mish": "Mish", "softplus": "Softplus", "hardswish": "Hardswish",
    "leaky_relu": "LeakyReLU", "softmax": "Softmax", "log_softmax": "LogSoftmax",
}  # fmt: skip
"""Functions and methods of one tensor, by name: the layer that computes the same."""
GIVES_TUPLE = ("RNN", "LSTM", "GRU", "MultiheadAttention")
NOT_WRITTEN = ("device", "dtype", "inplace", "_weight", "_freeze")
"""Arguments that a spec has no use for."""
GATHERING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
"""Kinds of parameter that name no argument."""


class CannotWrite(InvalidInput):
    """The module does not fit a spec; the message says where."""


def load(target: str) -> nn.Module:
    """`net.py:Net` or `package.module:make`: a module, or a class or function that makes one
    without arguments. Runs that code. Raises InvalidInput."""
    from torch import nn

    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise InvalidInput(f"{target}: give FILE.py:NAME or PACKAGE.MODULE:NAME")
    try:
        found = getattr(_imported(where), name)
        made = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # whatever that code raises
        raise InvalidInput(f"{target}: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise InvalidInput(f"{target} is no torch.nn.Module, but {type(made).__name__}")
    return made


def _imported(where: str) -> Any:
    path = Path(where)
    if path.suffix != ".py":
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def write_spec(module: nn.Module, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spec of a module on these inputs (entries of `probe.inputs`): what torch.fx sees of its
    forward, layer by layer. Initializations are not in a module any more: a spec's are PyTorch's
    own, and trained weights go with it as `weights`. Raises CannotWrite with every place."""
    from torch import nn

    if _is_layer(module):
        module = nn.Sequential(module)
    graph = _traced(module)
    writing = _Writing(module, inputs)
    for node in graph.nodes:
        writing.take(node)
    if writing.faults:
        raise CannotWrite("\n  ".join(["no spec can say this module:", *writing.faults]))
    return {"input": writing.given, "layers": writing.layers}


def _traced(module: nn.Module) -> fx.Graph:
    from torch import fx

    class Layers(fx.Tracer):
        """Stops at whatever is of torch.nn, but for what only holds others."""

        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
            return _is_layer(m)

    try:
        return Layers().trace(module)
    except Exception as error:  # whatever the model's own code raises on symbols
        gist = " ".join(str(error).split())[:300]
        raise CannotWrite(
            f"torch.fx cannot follow its forward: {gist}\n"
            "  A branch or a loop on data has no spec; send it as a file instead."
        ) from error


def _is_layer(module: nn.Module) -> bool:
    """Of torch.nn, and not one that only holds others."""
    kind = type(module)
    return kind.__module__.startswith("torch.nn") and kind.__name__ != "Sequential"


class _Writing:
    """One spec in the making."""

    def __init__(self, module: nn.Module, inputs: Sequence[Mapping[str, Any]]) -> None:
        self._modules = dict(module.named_modules())
        self._inputs = list(inputs)
        self._names: dict[Any, str] = {}
        """What each node of the graph is called in the spec."""
        self._first: dict[str, str] = {}
        """Path of a module → its layer."""
        self._given: list[dict[str, Any]] = []
        self.layers: list[dict[str, Any]] = []
        self.faults: list[str] = []

    @property
    def given(self) -> Any:
        """The `input` of the spec."""
        if len(self._given) > 1:
            return self._given
        return {key: value for key, value in self._given[0].items() if key != "name"}

    def take(self, node: fx.Node) -> None:
        """One step of the forward."""
        act: Callable[[fx.Node], None] = {
            "placeholder": self._input,
            "call_module": self._module,
            "call_function": self._function,
            "call_method": self._function,
            "output": self._output,
        }.get(node.op, self._refuse)
        act(node)

    def _input(self, node: fx.Node) -> None:
        place = len(self._given)
        if place >= len(self._inputs):
            self.faults.append(f"input `{node.name}`: its shape was not given")
            return
        entry = {key: value for key, value in self._inputs[place].items() if key != "distribution"}
        self._given.append({"name": node.name, **entry})
        self._names[node] = node.name if len(self._inputs) > 1 else "input"

    def _module(self, node: fx.Node) -> None:
        path = str(node.target)
        module = self._modules[path]
        kind = type(module).__name__
        if path in self._first:
            self._append(node, {"shares": self._first[path]})
            return
        try:
            args = _arguments(module)
        except AttributeError as error:
            self.faults.append(f"`{path}` ({kind}): {error}")
            return
        if args.get("batch_first") is False:
            self.faults.append(f"`{path}` ({kind}): the batch of a spec comes first, batch_first")
        if any(True for _ in module.parameters()):
            self._first[path] = self._free(path)
        self._append(node, {"type": kind} | ({"args": args} if args else {}), path)

    def _function(self, node: fx.Node) -> None:
        name = node.target if isinstance(node.target, str) else node.target.__name__
        tensors = [one for one in node.args if self._is_known(one)]
        others = [one for one in node.args if not self._is_known(one)]
        if name in MERGES and len(tensors) > 1 and not others:
            self._append(node, {"type": MERGES[name]})
        elif name == "cat":
            self._concat(node)
        elif name in CALLED and len(tensors) == 1:
            known = ("dim", "negative_slope", "alpha", "approximate", "beta", "threshold")
            args = {key: value for key, value in node.kwargs.items() if key in known}
            if name.endswith("softmax") and others:
                args["dim"] = others[0]
                others = []
            if others:
                self._refuse(node)
                return
            self._append(node, {"type": CALLED[name]} | ({"args": args} if args else {}))
        elif name == "flatten":
            ends = dict(zip(("start_dim", "end_dim"), others, strict=False))
            args = {"start_dim": 0, **ends, **node.kwargs}
            self._append(node, {"type": "Flatten", "args": args})
        elif not tensors:
            self._refuse(node)
        elif name == "getitem" and self._is_first_of_tuple(node):
            self._names[node] = self._names[node.args[0]]
        elif name == "getitem" and node.args[1] in ((slice(None), -1), [slice(None), -1]):
            self._append(node, {"type": "LastStep"})
        elif name == "dropout":
            self._refuse(node, "make it a layer: nn.Dropout")
        else:
            self._refuse(node)

    def _concat(self, node: fx.Node) -> None:
        parts = node.args[0] if node.args else node.kwargs["tensors"]
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(parts, list | tuple) or not all(map(self._is_known, parts)):
            self._refuse(node)
            return
        names = [self._names[one] for one in parts]
        self._append(node, {"type": "Concat", "args": {"dim": dim}, "inputs": names})

    def _is_known(self, value: object) -> bool:
        """Whether it is the output of something that the spec has."""
        from torch import fx

        return isinstance(value, fx.Node) and value in self._names

    def _is_first_of_tuple(self, node: fx.Node) -> bool:
        source: Any = node.args[0]
        owner = self._modules.get(str(source.target)) if source.op == "call_module" else None
        return type(owner).__name__ in GIVES_TUPLE and bool(node.args[1] == 0)

    def _append(self, node: fx.Node, entry: dict[str, Any], path: str | None = None) -> None:
        sources = [self._names[one] for one in node.args if self._is_known(one)]
        if type(self._modules.get(str(node.target))).__name__ == "MultiheadAttention":
            sources = sources[:1] if len(set(sources)) == 1 else sources
        if not sources and "inputs" not in entry:
            self._refuse(node)
            return
        name = self._free(path or node.name)
        self._names[node] = name
        self.layers.append({"name": name, **({"inputs": sources} if sources else {}), **entry})

    def _free(self, path: str) -> str:
        """A name without dots that no other layer has."""
        name, taken = path.replace(".", "_"), {layer["name"] for layer in self.layers}
        while name in taken or name == "input":
            name += "_"
        return name

    def _output(self, node: fx.Node) -> None:
        answer: Any = node.args[0]
        if not self._is_known(answer):
            self.faults.append("it does not return one tensor")
        elif self.layers and self._names[answer] != self.layers[-1]["name"]:
            self.faults.append(f"`{self.layers[-1]['name']}` comes after what it returns")

    def _refuse(self, node: fx.Node, instead: str = "") -> None:
        where = f"`{node.name}` ({node.op} {getattr(node.target, '__name__', node.target)})"
        if node.all_input_nodes and not any(map(self._is_known, node.all_input_nodes)):
            return  # it reads what was refused before
        self.faults.append(f"{where} has no layer in a spec{'; ' + instead if instead else ''}")


def _arguments(module: nn.Module) -> dict[str, Any]:
    """The constructor's arguments that differ from their defaults, read off a layer of torch.nn.
    Raises AttributeError for those that it does not keep, and for modules of other packages."""
    if not type(module).__module__.startswith("torch.nn"):
        raise AttributeError("it is not of torch.nn")
    found = {}
    from torch import nn

    # RNN, LSTM and GRU hand on what they are given.
    maker = nn.RNNBase if isinstance(module, nn.RNNBase) else type(module)
    for name, parameter in inspect.signature(maker.__init__).parameters.items():
        if name in ("self", "mode", *NOT_WRITTEN) or parameter.kind in GATHERING:
            continue  # Tanh has Module's own *args, Identity ignores them
        value = _kept(module, name)
        if value != parameter.default:
            found[name] = list(value) if isinstance(value, tuple) else value
    if hasattr(module, "batch_first"):
        found["batch_first"] = bool(module.batch_first)
    if getattr(module, "nonlinearity", "tanh") != "tanh":
        found["nonlinearity"] = module.nonlinearity
    return found


def _kept(module: nn.Module, name: str) -> Any:
    if name == "bias":
        own = getattr(module, "bias", getattr(module, "in_proj_bias", None))
        return own if isinstance(own, bool) else own is not None
    if name == "add_bias_kv":
        return getattr(module, "bias_k", None) is not None
    if not hasattr(module, name):
        raise AttributeError(f"it does not keep its argument `{name}`")
    return getattr(module, name)
