"""Any model to one thing: an ATen `torch.fx.GraphModule` over the model's own named parameters.

The model runs once under a `TorchDispatchMode`; every operation below autograd becomes a node, so
a spec, a scripted and a traced model of the same network give the same graph. Replaying the graph
with autograd on gives the model's output and gradients bit for bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from service.domain.errors import ModelRaised, NotDifferentiable, Untraceable

INPUT_PREFIX = "input_"
"""Placeholders are input_0, input_1 …"""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded forward pass, valid for the shapes and dtypes it was recorded with."""

    module: fx.GraphModule
    """Takes the inputs, returns the model's output tensor."""
    parameters: dict[str, Tensor]
    """The model's own parameters by name (shared, not copied), all requiring gradients."""
    buffers: dict[str, Tensor]
    """The model's own buffers by name (shared)."""


def record(
    model: Callable[..., Any],
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    inputs: tuple[Tensor, ...],
    setting: str = "",
) -> Recording:
    """Run `model(*inputs)` once and keep every operation.

    Buffers and the random number generator are left as they were. Raises ModelRaised when the
    model's own code fails (where a `setting` may be why, with that and the operation),
    NotDifferentiable when it returns no floating-point tensor, Untraceable
    when its operations cannot be kept.
    """
    mode = _Recorder(parameters, buffers, inputs)
    with preserved(buffers):
        try:
            with mode:
                output = model(*inputs)
        except Untraceable:
            raise
        except Exception as error:
            if isinstance(mode.refused, Untraceable):
                raise mode.refused from error
            # TorchScript's interpreter drops the text of what an operation raised.
            told = mode.refused if "Traceback of TorchScript" in str(error) else None
            gist = first_lines(told or error)
            raise ModelRaised(f"{setting}: {gist}{mode.place()}" if setting else gist) from error
    mode.graph.output(mode.node_of(primary_output(output)))
    return Recording(mode.graph_module(), dict(parameters), dict(buffers))


def primary_output(output: Any) -> Tensor:
    """The tensor a model answers with: itself, "logits" of a mapping, else the first floating
    tensor found. Raises NotDifferentiable when there is none."""
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        output = output["logits"]
    leaves, _ = tree_flatten(output)
    for leaf in leaves:
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            return leaf
    raise NotDifferentiable("the model returns no floating-point tensor")


def first_lines(error: BaseException, limit: int = 600) -> str:
    """The gist of an exception's text; TorchScript puts the model's own message last."""
    text = str(error).strip() or type(error).__name__
    if "Traceback of TorchScript" in text:
        text = text.splitlines()[-1].strip()
    return text[:limit]


def quiet_failures() -> None:
    """Keep `torch.fx` from saying on stderr, which nobody reads, where in a graph an operation
    failed: it imports PyTorch's compiler for it, and a sealed child cannot."""
    fx.graph_module._WrappedCall._generate_error_message = str  # type: ignore[assignment,method-assign]


@contextmanager
def preserved(buffers: Mapping[str, Tensor]) -> Iterator[None]:
    """Put buffers and the random number generator back as they were."""
    values = {name: buffer.detach().clone() for name, buffer in buffers.items()}
    rng = torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        torch.set_rng_state(rng)
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)
        with torch.no_grad():
            for name, buffer in buffers.items():
                buffer.copy_(values[name])


PACKED = (
    "the model computes with packed weights, as torch.ao.quantization leaves them, through which "
    "no gradient passes; send the model before it was quantized"
)
_SPARSE = {
    torch.ops.aten.embedding.default: 4,
    torch.ops.aten._embedding_bag.default: 5,
    torch.ops.aten._embedding_bag_forward_only.default: 5,
}
"""Operations that may ask for sparse gradients, and where they say so."""


_MODES: Mapping[str, tuple[Callable[[], bool], Callable[[bool], None]]] = {
    "grad": (torch.is_grad_enabled, torch._C._set_grad_enabled),
    "oneDNN": (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
}
"""What a model, or what it is run under, may switch on its way: is it on, and how to switch it."""


def _dense(func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, gradients asked for dense: the same numbers, of which statistics are made."""
    place = _SPARSE.get(func)
    if place is None or len(args) <= place:
        return args
    return (*args[:place], False, *args[place + 1 :])


class _Recorder(TorchDispatchMode):
    """Turns operations into nodes, tensors being told apart by identity."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        inputs: tuple[Tensor, ...],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.root = nn.Module()
        self._owned = {id(tensor): name for name, tensor in {**buffers, **parameters}.items()}
        self._nodes: dict[int, fx.Node] = {}
        self._views: dict[tuple[Any, ...], fx.Node] = {}
        # Identity is only good while the tensor lives.
        self._alive: list[Tensor] = []
        self._written: dict[int, fx.Node] = {}
        """Per storage, the last operation that wrote into a part of it."""
        self._storages = {_storage(tensor) for tensor in (*parameters.values(), *buffers.values())}
        self._modes = self._modes_before = {"grad": True, "oneDNN": torch._C._get_mkldnn_enabled()}
        self.refused: Exception | None = None
        """What the last operation that failed said."""
        self._failed = ""
        """Its name."""
        for index, tensor in enumerate(inputs):
            self._bind(tensor, self.graph.placeholder(f"{INPUT_PREFIX}{index}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: nothing here is compiled, and to be skipped by the compiler imports it."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            # A number read out of a tensor: baked in, as every Python number is. Traced models
            # hand over plain numbers here.
            return func(*args) if isinstance(args[0], Tensor) else args[0]
        self._follow_modes()
        node_args: Any = map_aggregate(_dense(func, args), self._argument)
        node_kwargs: Any = map_aggregate(kwargs, self._argument)
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            self.refused, self._failed = error, str(func).removesuffix(".default")
            raise
        node = self.graph.call_function(func, node_args, node_kwargs)
        node.meta["order"] = len(self.graph.nodes)
        if isinstance(result, Tensor):
            self._note_write(func, args, node)
            self._bind(result, node)
        elif isinstance(result, (tuple, list)):
            for index, item in enumerate(result):
                if isinstance(item, Tensor):
                    self._bind(item, self.graph.call_function(operator.getitem, (node, index)))
        return result

    def node_of(self, tensor: Tensor) -> fx.Node:
        """The node that made a tensor; unknown ones become constants of the graph."""
        node = self._nodes.get(id(tensor)) or self._views.get(_place(tensor))
        if node is not None:
            return self._as_written(tensor, node)
        name = self._owned.get(id(tensor))
        if name is None:
            node = self._get_attr(f"_constant{len(self._alive)}", tensor.detach().clone())
        else:
            node = self._get_attr(name, tensor)
        self._bind(tensor, node)
        return node

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node_of(value)
        if isinstance(value, torch.ScriptObject):
            self.refused = Untraceable(PACKED)
            raise self.refused
        return value

    def _note_write(self, func: Any, args: tuple[Any, ...], node: fx.Node) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes and isinstance(value, Tensor):
                node.meta["wrote"] = value.numel()
                self._written[_storage(value)] = node

    def _as_written(self, tensor: Tensor, node: fx.Node) -> fx.Node:
        """A tensor whose part was written through a view, as padding does into an empty tensor,
        comes from the write too: say so, or what was written seems to come from nowhere."""
        write = self._written.get(_storage(tensor))
        if write is None or write is node or write.meta["wrote"] >= tensor.numel():
            return node
        if node.meta.get("order", 0) >= write.meta["order"]:
            return node
        later = self.graph.call_function(after, (node, write))
        later.meta["order"] = len(self.graph.nodes)
        self._bind(tensor, later)
        return later

    def place(self) -> str:
        """The operation that failed and the parameter read last, to end a sentence with."""
        names = [node.meta["name"] for node in self.graph.nodes if node.meta.get("parameter")]
        told = [self._failed, f"after {names[-1]} was read" if names else ""]
        where = ", ".join(part for part in told if part)
        return f" ({where})" if where else ""

    def graph_module(self) -> fx.GraphModule:
        """The graph with its parameters, modes as at its beginning again at the end."""
        output = next(iter(reversed(self.graph.nodes)))
        with self.graph.inserting_before(output):
            self._switch(self._modes_before)
        _drop_dead_detaches(self.graph)
        return fx.GraphModule(self.root, self.graph)

    def _follow_modes(self) -> None:
        # A graph replayed without the model's no_grad regions invents gradients, and other kernels
        # round otherwise.
        self._switch({name: is_on() for name, (is_on, _) in _MODES.items()})

    def _switch(self, modes: Mapping[str, bool]) -> None:
        for name, on in modes.items():
            if on != self._modes[name]:
                self.graph.call_function(_MODES[name][1], (on,))
        self._modes = dict(modes)

    def _bind(self, tensor: Tensor, node: fx.Node) -> None:
        self._alive.append(tensor)
        self._nodes[id(tensor)] = node
        self._views[_place(tensor)] = node
        node.meta["shape"] = tensor.shape
        node.meta["dtype"] = tensor.dtype
        # Views and in-place results take no memory of their own.
        storage = _storage(tensor)
        node.meta["bytes"] = 0 if storage in self._storages else tensor.nbytes
        self._storages.add(storage)

    def _get_attr(self, name: str, tensor: Tensor) -> fx.Node:
        path = [_attribute(part) for part in name.split(".")]
        self._attach(path, tensor)
        node = self.graph.create_node("get_attr", ".".join(path), name="_".join(path))
        node.meta["name"] = name
        node.meta["parameter"] = isinstance(tensor, nn.Parameter) or tensor.requires_grad
        return node

    def _attach(self, path: list[str], tensor: Tensor) -> None:
        *modules, leaf = path
        owner = self.root
        for part in modules:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if isinstance(tensor, nn.Parameter):
            owner.register_parameter(leaf, tensor)
        else:
            owner.register_buffer(leaf, tensor)


def after(tensor: Tensor, _write: Tensor) -> Tensor:
    """The tensor itself, once a write into a part of it has happened."""
    return tensor


def _attribute(part: str) -> str:
    """A name that a module of the graph can carry: not train, half, forward, which it has."""
    return f"_named_{part}" if hasattr(fx.GraphModule, part) else part


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor's elements lie: `detach` hands out a new object over the same elements."""
    if tensor.layout != torch.strided:
        return (id(tensor),)
    return (
        tensor.untyped_storage()._cdata,
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
    )


def _drop_dead_detaches(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if node.target is torch.ops.aten.detach.default and not node.users:
            graph.erase_node(node)
