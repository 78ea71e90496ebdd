"""Several passes as one: a recorded graph rewritten so that every tensor is a stack of theirs.

A recorded operation knows the shapes of one pass. Here each is exchanged for one that takes a stack
(P, …), P passes over networks of the same form, each with parameters and a batch of its own, and
answers with a stack: a product of matrices with a batch of such products, sizes and dimensions by
the same ones behind the first. Only operations are exchanged for which that is known to be the same
arithmetic; a graph with any other, or one that writes or draws, is not stacked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

aten = torch.ops.aten

PARAMETER_PREFIX = "parameter_"
"""Placeholders of the stacks of parameters are parameter_0 …, before those of the inputs."""


class CannotStack(Exception):
    """A graph holds an operation that is not known to work on stacks."""


def stacked(graph: fx.Graph, parameters: Sequence[str]) -> fx.Graph:
    """The graph over stacks: takes one (P, …) for each of these parameters, in their order, and for
    each input; answers with one. Modules that are called are shown stacks. Raises CannotStack."""
    return _Stacker(parameters).copied(graph)


class _Stacker:
    def __init__(self, parameters: Sequence[str]) -> None:
        self._graph = fx.Graph()
        self._parameters = {
            name: self._graph.placeholder(f"{PARAMETER_PREFIX}{index}")
            for index, name in enumerate(parameters)
        }
        self._copies: dict[fx.Node, fx.Node] = {}
        self._stacks: set[fx.Node] = set()
        """Those that have become stacks."""

    def copied(self, graph: fx.Graph) -> fx.Graph:
        for node in graph.nodes:
            # Of several results those that nobody reads need not be there.
            if node.users or node.target is not operator.getitem:
                self._copies[node] = self._copy(node)
        return self._graph

    def _copy(self, node: fx.Node) -> fx.Node:
        if node.op == "get_attr" and node.meta.get("name") in self._parameters:
            self._stacks.add(node)
            return self._parameters[node.meta["name"]]
        if node.op == "get_attr" or not any(one in self._stacks for one in node.all_input_nodes):
            if node.op == "placeholder":
                self._stacks.add(node)
            elif node.op in ("output", "call_module") or _is_unsafe(node):
                raise CannotStack(str(node.target))
            return self._graph.node_copy(node, self._copies.__getitem__)
        self._stacks.add(node)
        if node.op in ("output", "call_module") or node.target is operator.getitem:
            return self._graph.node_copy(node, self._copies.__getitem__)
        if _is_unsafe(node):
            raise CannotStack(str(node.target))
        return self._exchanged(node)

    def _exchanged(self, node: fx.Node) -> fx.Node:
        if torch.Tag.pointwise in getattr(node.target, "tags", ()) or node.target in _BY_ELEMENT:
            return self._by_element(node)
        rule = _RULES.get(node.target)
        if rule is None or not all(one in self._stacks for one in node.all_input_nodes):
            raise CannotStack(str(node.target))
        arguments = _by_name(node)
        mapped = fx.map_arg(arguments, self._copies.__getitem__)
        return self._graph.call_function(rule, (), mapped)

    def _by_element(self, node: fx.Node) -> fx.Node:
        """The same operation; operands of fewer dimensions than the result get them behind the
        first, since sizes are matched from the last."""
        rank = len(node.meta["shape"]) if "shape" in node.meta else None

        def operand(one: fx.Node) -> fx.Node:
            copy = self._copies[one]
            if rank is None or one not in self._stacks or len(_shape(one)) == rank:
                return copy
            return self._graph.call_function(_lifted, (copy, rank))

        return self._graph.node_copy(node, operand)


def _shape(node: fx.Node) -> Sequence[int]:
    """Of one pass; a tap's is that of what it is shown."""
    while "shape" not in node.meta:
        node = node.all_input_nodes[0]
    found: Sequence[int] = node.meta["shape"]
    return found


def _is_unsafe(node: fx.Node) -> bool:
    """Whether it writes, or draws random numbers."""
    if node.op != "call_function":
        return False
    schema = getattr(node.target, "_schema", None)
    tags = getattr(node.target, "tags", ())
    return (schema is not None and schema.is_mutable) or torch.Tag.nondeterministic_seeded in tags


def _by_name(node: fx.Node) -> dict[str, Any]:
    """The operation's arguments, those left out included."""
    found = {}
    schema: Any = getattr(node.target, "_schema", None)
    for place, argument in enumerate(schema.arguments):
        if place < len(node.args):
            found[argument.name] = node.args[place]
        elif argument.name in node.kwargs:
            found[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            found[argument.name] = argument.default_value
    if "self" in found:
        found["stack"] = found.pop("self")
    return found


def _lifted(stack: Tensor, rank: int) -> Tensor:
    """As many dimensions behind the first as this, new ones in front."""
    ones = (1,) * (rank + 1 - stack.ndim)
    return stack.reshape(len(stack), *ones, *stack.shape[1:])


def _behind(dim: int) -> int:
    """A dimension of one pass in the stack."""
    return dim if dim < 0 else dim + 1


def _all_behind(dims: Sequence[int] | None, stack: Tensor) -> list[int]:
    return [_behind(dim) for dim in dims] if dims else list(range(1, stack.ndim))


def _addmm(stack: Tensor, mat1: Tensor, mat2: Tensor, beta: float, alpha: float) -> Tensor:
    return torch.baddbmm(_lifted(stack, 2), mat1, mat2, beta=beta, alpha=alpha)


def _mm(stack: Tensor, mat2: Tensor) -> Tensor:
    return torch.bmm(stack, mat2)


def _bmm(stack: Tensor, mat2: Tensor) -> Tensor:
    return torch.matmul(stack, mat2)


def _t(stack: Tensor) -> Tensor:
    return stack.transpose(-2, -1) if stack.ndim == 3 else stack


def _transpose(stack: Tensor, dim0: int, dim1: int) -> Tensor:
    return stack.transpose(_behind(dim0), _behind(dim1))


def _permute(stack: Tensor, dims: Sequence[int]) -> Tensor:
    return stack.permute(0, *(_behind(dim) for dim in dims))


def _view(stack: Tensor, size: Sequence[int]) -> Tensor:
    return stack.reshape(len(stack), *size)


def _expand(stack: Tensor, size: Sequence[int], implicit: bool) -> Tensor:  # noqa: ARG001
    return _lifted(stack, len(size)).expand(len(stack), *size)


def _unsqueeze(stack: Tensor, dim: int) -> Tensor:
    return stack.unsqueeze(_behind(dim))


def _squeeze(stack: Tensor, dim: int | Sequence[int]) -> Tensor:
    dims = [dim] if isinstance(dim, int) else dim
    return stack.squeeze([_behind(one) for one in dims])


def _select(stack: Tensor, dim: int, index: int) -> Tensor:
    return stack.select(_behind(dim), index)


def _slice(stack: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    found: Tensor = aten.slice.Tensor(stack, _behind(dim), start, end, step)
    return found


def _cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return torch.cat(list(tensors), _behind(dim))


def _stack(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return torch.stack(list(tensors), _behind(dim))


def _split(stack: Tensor, split_size: int, dim: int) -> Sequence[Tensor]:
    return torch.split(stack, split_size, _behind(dim))


def _split_with_sizes(stack: Tensor, split_sizes: list[int], dim: int) -> Sequence[Tensor]:
    return torch.split(stack, split_sizes, _behind(dim))


def _mean(stack: Tensor, dim: Sequence[int] | None, keepdim: bool, dtype: Any) -> Tensor:
    return stack.mean(_all_behind(dim, stack), keepdim=keepdim, dtype=dtype)


def _sum(stack: Tensor, dim: Sequence[int] | None, keepdim: bool, dtype: Any) -> Tensor:
    return stack.sum(_all_behind(dim, stack), keepdim=keepdim, dtype=dtype)


def _amax(stack: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    return stack.amax(_all_behind(dim, stack), keepdim=keepdim)


def _softmax(stack: Tensor, dim: int, half_to_float: bool) -> Tensor:
    found: Tensor = aten._softmax(stack, _behind(dim), half_to_float)
    return found


def _log_softmax(stack: Tensor, dim: int, half_to_float: bool) -> Tensor:
    found: Tensor = aten._log_softmax(stack, _behind(dim), half_to_float)
    return found


def _layer_norm(
    input: Tensor,  # noqa: A002 - the operation's own word
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor]:
    """What else native_layer_norm answers with serves its derivative alone."""
    found = functional.layer_norm(input, list(normalized_shape), eps=eps)
    rank = input.ndim - 1
    if weight is not None:
        found = found * _lifted(weight, rank)
    return (found if bias is None else found + _lifted(bias, rank),)


def _by_sample(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of an operation that does the same to every sample whatever others there are: the passes'
    samples one after the other."""

    def rule(stack: Tensor, **others: Any) -> Any:
        found = function(stack.flatten(0, 1), **others)
        back = stack.shape[:2]
        if isinstance(found, Tensor):
            return found.unflatten(0, back)
        return tuple(one.unflatten(0, back) for one in found)

    return rule


_BY_ELEMENT = frozenset(
    {
        aten._prelu_kernel.default,
        aten.alias.default,
        aten.detach.default,
        aten.hardswish.default,
        aten.log_sigmoid_forward.default,
    }
)
"""Those that torch does not tag as pointwise."""
_RULES: Mapping[Any, Callable[..., Any]] = {
    aten.addmm.default: _addmm,
    aten.mm.default: _mm,
    aten.bmm.default: _bmm,
    aten.t.default: _t,
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.view.default: _view,
    aten._unsafe_view.default: _view,
    aten.expand.default: _expand,
    aten.unsqueeze.default: _unsqueeze,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    aten.select.int: _select,
    aten.slice.Tensor: _slice,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split_with_sizes,
    aten.mean.dim: _mean,
    aten.sum.dim_IntList: _sum,
    aten.amax.default: _amax,
    aten._softmax.default: _softmax,
    aten._log_softmax.default: _log_softmax,
    aten.native_layer_norm.default: _layer_norm,
    aten.max_pool2d_with_indices.default: _by_sample(aten.max_pool2d_with_indices.default),
    aten.avg_pool2d.default: _by_sample(aten.avg_pool2d.default),
    aten._adaptive_avg_pool2d.default: _by_sample(aten._adaptive_avg_pool2d.default),
}
"""By operation: what takes its arguments by name (`self` is `stack`), tensors being stacks."""
