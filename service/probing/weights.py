"""Parameters and buffers: as they came, and as each seed has them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from service.probing import devices
from service.probing.loaders.loaded import LoadedModel


class Weights:
    """Those of one model, written in place."""

    def __init__(self, model: LoadedModel, seed: int) -> None:
        """`seed`: root of the randomness of fresh initializations."""
        self._model, self._seed = model, seed
        self.start = {name: value.detach().clone() for name, value in self.values.items()}
        """As they came."""
        self.pretrain: Callable[[int], dict[str, Tensor]] | None = None
        """What pre-training finds for a seed, asked once for each; None without pre-training."""
        self._found: dict[int, dict[str, Tensor]] = {}
        self.redrawn: dict[str, Tensor] | None = None
        """What the first seed has other than as it came, where a change draws it anew."""

    @property
    def values(self) -> dict[str, Tensor]:
        """By name, as they are now."""
        return {**self._model.parameters, **self._model.buffers}

    @torch.no_grad()
    def restore(self) -> None:
        """As they came."""
        for name, value in self.values.items():
            value.copy_(self.start[name])

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Seed 0 is the model as opened, unless a change draws it anew; others are fresh
        initializations, where there are any."""
        self.restore()
        model = self._model
        if model.fresh is not None and (seed or model.redrawn):
            for name, value in self._fresh(model.fresh, seed).items():
                model.parameters[name].copy_(value)
        if self.pretrain is None:
            return
        if seed not in self._found:
            self._found[seed] = self.pretrain(seed)
        for name, value in self._found[seed].items():
            model.parameters[name].copy_(value)

    def _fresh(self, fresh: Callable[[], dict[str, Tensor]], seed: int) -> dict[str, Tensor]:
        """Another initialization, by name. That of the first seed, which every training begins
        with, is drawn once, and kept where it is other than as it came. Torch's generator is left
        as it was, so that what is drawn next does not depend on whether this was."""
        if seed == 0 and self.redrawn is not None:
            return self.redrawn
        with torch.random.fork_rng(devices=[]):
            devices.seed(self._seed + seed)
            values = fresh()
        if seed == 0:
            own = {name: value.to(self.start[name]) for name, value in values.items()}
            values = self.redrawn = {
                name: value
                for name, value in own.items()
                if not torch.equal(value, self.start[name])
            }
        return values
