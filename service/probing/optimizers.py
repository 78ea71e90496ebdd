"""One step of a named optimizer, by torch.optim's own code."""

from __future__ import annotations

import torch
from torch import Tensor

from service.domain.probe_plan import OptimizerPlan


def optimizer_for(plan: OptimizerPlan, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """torch.optim's SGD, Adam or AdamW with the plan's settings."""
    if plan.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
        )
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[plan.name]
    return kind(parameters, lr=plan.lr, weight_decay=plan.weight_decay)


def step_once(
    plan: OptimizerPlan, parameters: list[Tensor], gradients: tuple[Tensor | None, ...]
) -> None:
    """Change the parameters in place by one step; its state is forgotten."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    if plan.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, plan.clip_norm)
    optimizer_for(plan, parameters).step()
    for parameter in parameters:
        parameter.grad = None
