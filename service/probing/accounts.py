"""From the figures of one pass to what its seed has shown, layer by layer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from service.probing.chains import Chain
from service.probing.figures import GradientFigures, Norms, OutputFigures
from service.probing.gain_parts import factors


@dataclass(slots=True)
class LayerRecord:
    """What one layer showed over the batches of one seed; one entry per batch."""

    numbers: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    """By dotted statistic name."""
    nonfinite_activation: int = 0
    nonfinite_gradient: int = 0
    active: list[Tensor] = field(default_factory=list)
    """1 for units that were nonzero, else 0, (units,) per batch."""
    sample_gains: list[Tensor] = field(default_factory=list)
    """Gain per sample, (B,) float64 per batch; not finite where no gradient arrived."""
    output_shape: tuple[int, ...] = ()
    memory: tuple[float | None, ...] = ()
    """See TimeSteps; of the first batch."""
    step_gradients: tuple[float | None, ...] = ()
    """Likewise."""

    def so_far(self) -> LayerRecord:
        """A copy that further batches leave as it is."""
        numbers = {name: list(values) for name, values in self.numbers.items()}
        return replace(
            self,
            numbers=defaultdict(list, numbers),
            active=list(self.active),
            sample_gains=list(self.sample_gains),
        )


class Account:
    """One pass, written into the records of its seed."""

    def __init__(self, records: Sequence[LayerRecord]) -> None:
        """`records`: one per layer."""
        self.records = records
        self._at_output: dict[int, Norms] = {}
        """Of the gradient there, by layer."""
        self._at_entry: dict[int, Norms] = {}
        self._on_path: dict[tuple[int, int], float | None] = {}
        """Of the gradient on a layer's own path, by layer and part."""

    def output(self, index: int, seen: OutputFigures, shape: torch.Size) -> None:
        """A layer's output (B, …)."""
        record = self.records[index]
        record.output_shape = tuple(shape)
        record.nonfinite_activation += seen.norms.nonfinite
        numbers = record.numbers
        numbers["activation.mean"].append(seen.mean)
        numbers["activation.std"].append(seen.std)
        numbers["activation.rms"].append(rms(seen.norms.norm, shape.numel()))
        numbers["activation.abs_max"].append(seen.abs_max)
        numbers["activation.zero_fraction"].append(seen.zero_fraction)
        numbers["activation.correlation"].append(seen.correlation)
        record.active.append(seen.active)

    def number(self, index: int, name: str, number: float | None) -> None:
        """One of the layer's numbers that every batch has."""
        self.records[index].numbers[name].append(number)

    def once(self, index: int, name: str, number: float | None) -> None:
        """One of which the first batch's is enough."""
        numbers = self.records[index].numbers
        if name not in numbers:
            numbers[name].append(number)

    def gradient(self, index: int, seen: GradientFigures, count: int) -> None:
        """The gradient at a layer's output, of so many elements."""
        record = self.records[index]
        record.nonfinite_gradient += seen.norms.nonfinite
        numbers = record.numbers
        numbers["gradient.rms"].append(rms(seen.norms.norm, count))
        numbers["gradient.norm"].append(seen.norms.norm)
        numbers["gradient.abs_max"].append(seen.abs_max)
        numbers["gradient.zero_fraction"].append(seen.zero_fraction)
        numbers["gradient.underflow_fraction_fp16"].append(seen.underflow_fraction)
        if seen.small is not None:
            numbers["gradient.small"].append(seen.small)
        self._at_output[index] = seen.norms

    def arrives(self, index: int, seen: Norms) -> None:
        """The gradient at a layer's data input."""
        self._at_entry[index] = seen

    def on_path(self, place: tuple[int, int], norm: float | None) -> None:
        """Norm of the gradient on a layer's own path, by layer and part."""
        self._on_path[place] = norm

    def close(
        self, layers: Sequence[int], sources: Mapping[int, int], chains: Mapping[int, Chain]
    ) -> None:
        """After the pass: the gradients' norms become gains. `sources`: see
        `Watch.entry_is_output`; `chains`: by index of the layer."""
        for index in layers:
            record, source = self.records[index], sources.get(index)
            top = self._at_output.get(index)
            bottom = self._at_entry.get(index) if source is None else self._at_output.get(source)
            above, below = (None if one is None else one.norm for one in (top, bottom))
            gain = below / above if above and below is not None else None
            record.numbers["gradient.gain"].append(gain)
            chain = chains.get(index)
            if chain is not None:
                for name, factor in factors(index, chain, self._on_path, below, above).items():
                    record.numbers[name].append(factor)
            if top is None or bottom is None or above is None or below is None:
                continue
            if top.rows.shape == bottom.rows.shape:
                record.sample_gains.append(bottom.rows / top.rows)


def rms(norm: float | None, count: int) -> float | None:
    """norm / √count."""
    return None if norm is None else norm / math.sqrt(max(count, 1))
