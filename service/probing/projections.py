"""Linear maps beside the layers that a skip leads around, where those change the shape (He et al.
2015, arXiv:1512.03385, eq. 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from service.domain.errors import ChangeRefused

PROJECTIONS = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d"})
"""Types of torch.nn that they may have."""


def maker(
    entry: Mapping[str, Any], before: Sequence[int], after: Sequence[int]
) -> Callable[[], nn.Module]:
    """What makes the map that a change asks for, drawn anew at every call; `before` and `after` are
    the shapes of what it reads and of what it is added to. Raises ChangeRefused."""
    kind, args = str(entry.get("type")), dict(entry.get("args", {}))
    if kind not in PROJECTIONS:
        raise ChangeRefused(f"{kind!r} is no projection")

    def made() -> nn.Module:
        module: nn.Module = getattr(nn, kind)(**args)
        return module

    try:
        # A sample is passed through: shapes alone ("meta") take modules that a sealed child lacks.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            shape = made()(torch.zeros((1, *before[1:]))).shape
    except (RuntimeError, TypeError, ValueError) as error:
        raise ChangeRefused(f"no {kind} with {args} fits: {error}") from error
    if tuple(shape)[1:] != tuple(after)[1:]:
        raise ChangeRefused(f"{kind} gives {tuple(shape)[1:]} where {tuple(after)[1:]} is added")
    return made
