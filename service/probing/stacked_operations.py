"""Operations of one pass as those of a stack (P, …) of passes: the same arithmetic.

A product of matrices becomes a batch of such products; sizes and dimensions become the same ones
behind the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

aten = torch.ops.aten


def lifted(stack: Tensor, rank: int) -> Tensor:
    """As many dimensions behind the first as this, new ones in front."""
    ones = (1,) * (rank + 1 - stack.ndim)
    return stack.reshape(len(stack), *ones, *stack.shape[1:])


def _behind(dim: int) -> int:
    """A dimension of one pass in the stack."""
    return dim if dim < 0 else dim + 1


def _all_behind(dims: Sequence[int] | None, stack: Tensor) -> list[int]:
    return [_behind(dim) for dim in dims] if dims else list(range(1, stack.ndim))


def _addmm(stack: Tensor, mat1: Tensor, mat2: Tensor, beta: float, alpha: float) -> Tensor:
    return torch.baddbmm(lifted(stack, 2), mat1, mat2, beta=beta, alpha=alpha)


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
    return lifted(stack, len(size)).expand(len(stack), *size)


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
        found = found * lifted(weight, rank)
    return (found if bias is None else found + lifted(bias, rank),)


def _batch_norm(
    input: Tensor,  # noqa: A002 - the operation's own word
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor]:
    """The channels of all passes as those of one (B, P·C, …). What came in so far (running_mean,
    running_var) is no stack: with training it is not asked, nor written to, and what each pass is
    to leave of it is what there was before."""
    passes = len(input)
    joined = input.transpose(0, 1).flatten(1, 2)
    found = functional.batch_norm(
        joined,
        None if training or running_mean is None else running_mean.repeat(passes),
        None if training or running_var is None else running_var.repeat(passes),
        None if weight is None else weight.flatten(),
        None if bias is None else bias.flatten(),
        training,
        momentum,
        eps,
    )
    return (found.unflatten(1, (passes, -1)).transpose(0, 1),)


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


BY_ELEMENT = frozenset(
    {
        aten._prelu_kernel.default,
        aten.alias.default,
        aten.detach.default,
        aten.hardswish.default,
        aten.log_sigmoid_forward.default,
    }
)
"""Those that torch does not tag as pointwise."""
RULES: Mapping[Any, Callable[..., Any]] = {
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
    aten.native_batch_norm.default: _batch_norm,
    aten.max_pool2d_with_indices.default: _by_sample(aten.max_pool2d_with_indices.default),
    aten.avg_pool2d.default: _by_sample(aten.avg_pool2d.default),
    aten._adaptive_avg_pool2d.default: _by_sample(aten._adaptive_avg_pool2d.default),
}
"""By operation: what takes its arguments by name (`self` is `stack`), tensors being stacks."""
BUFFERS: Mapping[Any, frozenset[str]] = {
    aten.native_batch_norm.default: frozenset({"running_mean", "running_var"})
}
"""Arguments of these that are no stacks."""
