"""A real batch that the caller sent: safetensors or npz with x (or x0, x1, …) and perhaps y."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from service.domain.errors import ModelRaised
from service.domain.probe_plan import InputPlan
from service.probing.losses import Loss, Target

_ZIP = b"PK\x03\x04"
_INPUT = re.compile(r"x(\d*)")


@dataclass(frozen=True, slots=True)
class Data:
    """Rows to draw batches from."""

    inputs: tuple[Tensor, ...]
    """One per model input, (N, *shape) each."""
    answers: Tensor | None
    """What the model should answer, (N, …); None: not given."""

    def __len__(self) -> int:
        return len(self.inputs[0])

    def plans(self) -> tuple[InputPlan, ...]:
        """The inputs as a probe plan says them."""
        return tuple(
            InputPlan(
                tuple(tensor.shape[1:]),
                str(tensor.dtype).removeprefix("torch."),
                high=int(tensor.max()) + 1 if tensor.dtype == torch.int64 else None,
            )
            for tensor in self.inputs
        )

    def rows(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of a random batch, without repetition while there are rows enough."""
        order = torch.randperm(len(self), generator=generator)
        repeats = -(-count // len(self))
        return order.repeat(repeats)[:count]

    def batch(self, rows: Tensor) -> tuple[Tensor, ...]:
        """These rows of every input."""
        return tuple(tensor[rows] for tensor in self.inputs)

    def targets(self, rows: Tensor, loss: Loss, output: Tensor) -> Tensor | None:
        """The answers to these rows as the loss wants them; None when none were given.

        Raises ModelRaised when they do not fit the output.
        """
        if self.answers is None:
            return None
        answers = self.answers[rows]
        if loss.kind is Target.CLASSES:
            return _classes(answers, loss, output)
        if answers.numel() != output.numel():
            raise ModelRaised(
                f"y has {tuple(answers.shape)} elements a batch and the model answers "
                f"{tuple(output.shape)}"
            )
        return answers.reshape(output.shape).to(output.dtype)


def read(content: bytes, dtype: torch.dtype, wanted: tuple[InputPlan, ...]) -> Data:
    """Tensors by name; floating ones (and all that `wanted` says are) become `dtype`.

    Raises ModelRaised for a broken file, missing x, or rows that do not agree.
    """
    tensors = _npz(content) if content.startswith(_ZIP) else _safetensors(content)
    names = sorted(
        (name for name in tensors if _INPUT.fullmatch(name)), key=lambda name: int(name[1:] or 0)
    )
    if not names:
        raise ModelRaised(f"the data has no x (or x0, x1, …), only {sorted(tensors)[:10]}")
    if wanted and len(wanted) != len(names):
        raise ModelRaised(f"the model has {len(wanted)} inputs, the data {len(names)}")
    inputs = tuple(
        _cast(tensors[name], dtype, wanted[index].dtype if wanted else None)
        for index, name in enumerate(names)
    )
    answers = tensors.get("y")
    counts = {name: len(tensors[name]) for name in (*names, "y") if name in tensors}
    if len(set(counts.values())) != 1 or not len(inputs[0]):
        raise ModelRaised(f"x and y must have the same number of rows, at least one: {counts}")
    for plan, tensor in zip(wanted, inputs, strict=False):
        if tuple(tensor.shape[1:]) != plan.shape:
            raise ModelRaised(
                f"a sample of the data is {tuple(tensor.shape[1:])}, the model takes {plan.shape}"
            )
    return Data(inputs, answers)


def read_weights(content: bytes) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name. Raises ModelRaised when it is broken."""
    return _safetensors(content)


def _safetensors(content: bytes) -> dict[str, Tensor]:
    try:
        return load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelRaised(f"the file is not safetensors: {error}") from error


def _npz(content: bytes) -> dict[str, Tensor]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays}
    except (ValueError, OSError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelRaised(f"the file is not npz with plain arrays: {error}") from error


def _cast(tensor: Tensor, dtype: torch.dtype, wanted: str | None) -> Tensor:
    if tensor.ndim == 0:
        raise ModelRaised("x must have a row per sample")
    if wanted is not None:
        kind: torch.dtype = getattr(torch, wanted)
        return tensor.to(dtype if kind.is_floating_point else kind)
    # Bytes are pixels; other integers are indices.
    if tensor.is_floating_point() or tensor.dtype == torch.uint8:
        return tensor.to(dtype)
    return tensor.bool() if tensor.dtype == torch.bool else tensor.long()


def _classes(answers: Tensor, loss: Loss, output: Tensor) -> Tensor:
    places = [size for dim, size in enumerate(output.shape) if dim != loss.class_dim]
    if answers.is_floating_point() or answers.numel() != torch.Size(places).numel():
        raise ModelRaised(
            f"loss {loss.name} wants integer classes of shape {tuple(places)}, y gives "
            f"{str(answers.dtype).removeprefix('torch.')} {tuple(answers.shape)}"
        )
    answers = answers.long().reshape(places)
    low, high = int(answers.min()), int(answers.max())
    if low < 0 or high >= (loss.classes or 0):
        raise ModelRaised(f"y has classes {low} … {high}, the model answers {loss.classes}")
    return answers
