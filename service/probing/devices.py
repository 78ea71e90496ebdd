"""Where a probe computes. Random numbers are always drawn on the processor and moved, so that every
device sees the same ones; what is measured stays on the device until it is read."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from service.domain.errors import DeviceUnavailable

MIB = 1024 * 1024
CPU = torch.device("cpu")


def opened(name: str, memory_fraction: float) -> torch.device:
    """The device of this name (cpu, cuda, cuda:N), bounded to a share of its memory, 0 … 1.

    Raises DeviceUnavailable.
    """
    device = torch.device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count()
    index = device.index or 0
    if index >= count:
        raise DeviceUnavailable(
            f"probe.device is {name!r} and this worker sees {count} CUDA devices"
            + (f" (cuda:0 … cuda:{count - 1})" if count else "")
        )
    device = torch.device("cuda", index)
    torch.cuda.set_per_process_memory_fraction(memory_fraction, device)
    # TF32 keeps ten bits: gains would scatter where the processor's do not.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return device


def memory_mb(device: torch.device, allowed_mb: int | None, memory_fraction: float) -> int | None:
    """MiB that a probe may take there: of the child, or of the device's own memory."""
    if device.type == "cpu":
        return allowed_mb
    _, total = torch.cuda.mem_get_info(device)
    return int(total * memory_fraction) // MIB


def peak_mb(device: torch.device) -> float | None:
    """Most device memory that tensors took so far, MiB; None for the processor."""
    return None if device.type == "cpu" else torch.cuda.max_memory_allocated(device) / MIB


def finished(device: torch.device) -> None:
    """Wait for everything that was begun there, before a clock is read."""
    if device.type != "cpu":
        torch.cuda.synchronize(device)


def seed(number: int) -> None:
    """Torch's own generators, of the processor and of the devices in use.

    torch.manual_seed also leaves a call with its stack for every kind of device that may come into
    use later, which takes a millisecond and is never let go.
    """
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


def moved(tensors: Iterable[Tensor], device: torch.device) -> tuple[Tensor, ...]:
    """The same tensors there."""
    return tuple(tensor.to(device) for tensor in tensors)
