"""Models that do more than compute, or less than they should."""

from __future__ import annotations

import io
import warnings

import torch
from torch import Tensor, nn


class Hostile(nn.Module):
    """Its file or folder is whatever it is to harm."""

    def __init__(self, path: str = "") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.path = path


class ReadsAFile(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        stolen = torch.from_file(self.path, False, 8, dtype=torch.uint8)
        return x * self.weight + stolen.sum()


class ReadsAFileInATask(Hostile):
    def steal(self, x: Tensor) -> Tensor:
        stolen: Tensor = torch.from_file(self.path, False, 8, dtype=torch.uint8)
        return x + stolen.sum()

    def forward(self, x: Tensor) -> Tensor:
        task = torch.jit.fork(self.steal, x)
        stolen: Tensor = torch.jit.wait(task)
        return stolen * self.weight


class WritesThroughAMapping(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        mapped = torch.from_file(self.path, True, 8, dtype=torch.uint8)
        return x * self.weight + mapped.zero_().sum()


class WritesAFile(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, self.path)
        return x * self.weight


class WritesWhileItIsLoaded(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.weight = torch.ones(4)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.path, self.weight, self.training = state
        torch.save(self.weight, self.path)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class LoopsForEver(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        y = x * self.weight
        while bool((y * 0).sum() == 0):
            y = y * 1
        return y


class LoopsInItsThreads(Hostile):
    def spin(self, x: Tensor) -> Tensor:
        while bool((x * 0).sum() == 0):
            x = x * 1
        return x

    def forward(self, x: Tensor) -> Tensor:
        waiting = [torch.jit.fork(self.spin, x) for _ in range(4)]
        spun: Tensor = torch.jit.wait(waiting[0])
        return spun * self.weight


class PrintsForEver(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        while bool((x * 0).sum() == 0):
            print("hello", x)  # noqa: T201 - TorchScript's own
        return x * self.weight


class ForksForEver(Hostile):
    def nothing(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        tasks = [torch.jit.fork(self.nothing, x)]
        while bool((x * 0).sum() == 0):
            tasks.append(torch.jit.fork(self.nothing, x))
        forked: Tensor = torch.jit.wait(tasks[-1])
        return forked * self.weight


class AsksForATebibyte(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + torch.zeros(1 << 38).sum()


class Asks64Gibibytes(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + torch.ones(1 << 34).sum()


class Hoards(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        hoard = [x]
        while bool((x * 0).sum() == 0):
            hoard.append(torch.ones(1 << 22))
        return x * self.weight + hoard[-1].sum()


class HoardsSlowly(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        text = "a"
        while bool((x * 0).sum() == 0):
            text = text + text
        return x * self.weight + len(text)


class ReadsPastTheEnd(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        far: Tensor = torch.ops.aten._reshape_alias(x, [1 << 20], [1 << 20])
        return x * self.weight + far.sum()


class CutsTheGradient(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).detach()


class GivesIntegers(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).long()


class WantsOtherSizes(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.ones(5, 5) * self.weight


class Asserts(Hostile):
    def forward(self, x: Tensor) -> Tensor:
        assert x.size(0) == 12345, "the batch is never this large \x1b[31m"
        return x * self.weight


class HasNaNWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        nn.init.constant_(self.fc.weight, float("nan"))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x)
        return y


class HasNoParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * 2


def scripted(model: nn.Module) -> bytes:
    """As torch.jit.save writes it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(model), file)
    return file.getvalue()
