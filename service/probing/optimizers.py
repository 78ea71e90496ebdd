"""torch.optim's update rules, on lists of tensors.

Written out because the first use of torch.optim imports the compiler, a second or more, and holds
its state between the runs of a trial; a test holds them to torch.optim's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from service.domain.probe_plan import OptimizerPlan

Update = Callable[[list[Tensor]], None]
"""Takes the gradients (which it may overwrite) and changes the parameters."""


def updates(parameters: list[Tensor], plan: OptimizerPlan, matrix_decay: float = 0.0) -> Update:
    """torch.optim's SGD, Adam or AdamW, with clip_grad_norm_ before it when the plan says so.

    `matrix_decay`, ≥ 0, is the weight decay of matrices and kernels alone: SGD's, added to their
    gradients, or AdamW's, taken off them (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    parameters = _real(parameters)
    step = (_sgd if plan.name == "sgd" else _adam)(parameters, plan)
    decayed = [p for p in parameters if p.ndim > 1] if matrix_decay else []

    @torch.no_grad()
    def update(gradients: list[Tensor]) -> None:
        gradients = _real(gradients)
        if plan.clip_norm is not None:
            norm = total_norm(gradients)
            torch._foreach_mul_(gradients, (plan.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        if decayed and plan.name == "sgd":
            chosen = [g for g, p in zip(gradients, parameters, strict=True) if p.ndim > 1]
            torch._foreach_add_(chosen, decayed, alpha=matrix_decay)
        elif decayed:
            torch._foreach_mul_(decayed, 1.0 - plan.lr * matrix_decay)
        step(gradients)

    return update


def _real(tensors: list[Tensor]) -> list[Tensor]:
    """Complex numbers as pairs of real ones over the same memory, as torch.optim takes them."""
    return [torch.view_as_real(one.detach()) if one.is_complex() else one for one in tensors]


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm of all elements together, a scalar."""
    # Squares of 16 bits do not fit them.
    wide = [one.float() if one.dtype.itemsize < 4 else one for one in gradients]
    norms: list[Tensor] = list(torch._foreach_norm(wide))
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _sgd(parameters: list[Tensor], plan: OptimizerPlan) -> Update:
    """torch.optim.SGD's rule."""
    velocity = [torch.zeros_like(parameter) for parameter in parameters]

    def update(gradients: list[Tensor]) -> None:
        if plan.weight_decay:
            torch._foreach_add_(gradients, parameters, alpha=plan.weight_decay)
        torch._foreach_mul_(velocity, plan.momentum)
        torch._foreach_add_(velocity, gradients)
        torch._foreach_add_(parameters, velocity, alpha=-plan.lr)

    return update


def _adam(parameters: list[Tensor], plan: OptimizerPlan) -> Update:
    """torch.optim.Adam's rule (betas 0.9 and 0.999, eps 1e-8); AdamW's for name "adamw"."""
    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(parameter) for parameter in parameters]
    step = 0

    def update(gradients: list[Tensor]) -> None:
        nonlocal step
        step += 1
        if plan.weight_decay and plan.name == "adamw":
            torch._foreach_mul_(parameters, 1.0 - plan.lr * plan.weight_decay)
        elif plan.weight_decay:
            torch._foreach_add_(gradients, parameters, alpha=plan.weight_decay)
        torch._foreach_lerp_(first, gradients, 1.0 - 0.9)
        torch._foreach_mul_(second, 0.999)
        torch._foreach_addcmul_(second, gradients, gradients, 1.0 - 0.999)
        scale = torch._foreach_sqrt(second)
        torch._foreach_div_(scale, math.sqrt(1.0 - 0.999**step))
        torch._foreach_add_(scale, 1e-8)
        torch._foreach_addcdiv_(parameters, first, scale, -plan.lr / (1.0 - 0.9**step))

    return update
