"""Blocks of a plain stack that a skip can go around, by the identity or by a projection."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import module_name
from service.recommendation.case import Case, is_matrix
from service.recommendation.initialization import Draw, own_parameters, significant
from service.recommendation.spec_structure import PROJECTION

LONGEST = 3
"""Layers of a block, at most."""
CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
"""Dimensions of what is convolved."""
Layers = tuple[LayerMeasurements, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear map without bias, applied at every position, or at those that strides leave."""

    name: str
    """Of its module."""
    type: str
    """Linear, Conv1d, Conv2d or Conv3d."""
    args: dict[str, Any]
    """Its constructor's arguments."""
    shape: tuple[int, ...]
    """Of its weight."""

    @property
    def draw(self) -> Draw:
        """It keeps the mean square of what it reads, as the identity does."""
        rms = self.shape[1] ** -0.5
        name = f"{self.name}.weight"
        return Draw(
            name, self.shape, "kaiming_normal_", {"nonlinearity": "linear"}, significant(rms), 1.0
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Layers that follow one another."""

    layers: Layers
    projection: Projection | None = None
    """Of what the first reads to the shape of what the last gives; None for the identity."""

    @property
    def end(self) -> LayerMeasurements:
        """Its last layer."""
        return self.layers[-1]

    @property
    def narrows(self) -> bool:
        """Whether it has fewer numbers inside than it gives."""
        return min(map(_size, self.layers)) < _size(self.end)

    def __len__(self) -> int:
        return len(self.layers)


def blocks_of(case: Case) -> tuple[Block, ...]:
    """Blocks of a chain, in order, none of which shares a layer with another.

    First the shortest runs, one layer each where all keep their width, whose output is shaped as
    what the first of them reads; the first layer of the model and the one that gives the output
    stay outside. Then, of what these leave, runs that narrow inside, to fewer numbers than they
    read and than they give, so that a linear map around them carries more than they do: the most
    that is carried first, by the fewest layers. These may begin at the model's input and end in
    its output."""
    plain = tuple(_plain(case))
    taken = {layer.index for block in plain for layer in block.layers}
    around = _around_narrow(case, taken)
    return tuple(sorted((*plain, *around), key=lambda block: block.end.index))


def _plain(case: Case) -> Iterator[Block]:
    layers = case.measurements.layers
    start = 1
    while start < len(layers):
        run = next((run for run in _runs(layers, start) if _keeps_shape(case, run)), None)
        if run is not None:
            yield Block(run)
        start += len(run) if run else 1


def _runs(layers: Layers, start: int) -> Iterator[Layers]:
    for end in range(start + 1, min(start + LONGEST, len(layers)) + 1):
        yield layers[start:end]


def _around_narrow(case: Case, taken: set[int]) -> list[Block]:
    layers = case.measurements.layers
    runs = (run for start in range(len(layers)) for run in _runs(layers, start))
    free = [run for run in runs if not taken & {layer.index for layer in run}]
    able = [(_carried(read, run), run, read) for run in free if (read := _read_by(case, run))]
    found: list[Block] = []
    for carried, run, read in sorted(able, key=lambda one: (-one[0], len(one[1]))):
        own = {layer.index for layer in run}
        made = _linear_map(run[0], run[-1], read)
        if made and min(map(_size, run)) < carried and not taken & own:
            taken = taken | own
            found.append(Block(run, Projection(_free_name(case, run[-1].name), *made)))
    return found


def _carried(read: tuple[int, ...], run: Layers) -> int:
    """Numbers per sample that a linear map around a run can carry."""
    return min(math.prod(read[1:]), _size(run[-1]))


def _size(layer: LayerMeasurements) -> int:
    """Numbers per sample that it gives."""
    return math.prod(layer.output_shape[1:])


def _keeps_shape(case: Case, run: Layers) -> bool:
    before = case.measurements.layers[run[0].index - 1]
    return (
        run[-1].output_shape == before.output_shape
        and all(is_matrix(layer) and layer.name != case.head() for layer in run)
        and _chained((before, *run))
        and reads(run[0]) == gives(run[-1])
    )


def _read_by(case: Case, run: Layers) -> tuple[int, ...]:
    """The shape of what a run reads; () where a skip around it cannot be."""
    first = run[0]
    before = case.measurements.layers[first.index - 1] if first.index else None
    closed = set() if _open(case) else {case.head()}
    chain = (before, *run) if before else run
    able = all(is_matrix(layer) and layer.name not in closed for layer in run)
    if not (_chained(chain) and able):
        return ()
    return before.output_shape if before else _read_at_input(case, first)


def _open(case: Case) -> bool:
    """Whether what gives the output is linear, so that something can be added to it."""
    last = case.measurements.layers[-1]
    return case.measurements.model.output_op is None and (
        last.name == case.head() and last.nonlinearity is None and last.normalization is None
    )


def _chained(layers: Layers) -> bool:
    return all(two.depth == one.depth + 1 for one, two in pairwise(layers))


def _read_at_input(case: Case, first: LayerMeasurements) -> tuple[int, ...]:
    """The shape of the model's input, where the first layer shows it; () elsewhere."""
    if first.op != "linear" or not _reads_input(case, first.name):
        return ()
    return (*first.output_shape[:-1], reads(first))


def _reads_input(case: Case, name: str) -> bool:
    if case.architecture is None:  # the recorded graph shows it when the change is made
        return True
    inputs = {one.name for one in case.architecture.inputs}
    return any(node.name == name and node.inputs[0] in inputs for node in case.architecture.layers)


def _linear_map(
    first: LayerMeasurements, last: LayerMeasurements, read: tuple[int, ...]
) -> tuple[str, dict[str, Any], tuple[int, ...]] | None:
    """Type, arguments and weight shape of the torch.nn layer from one shape to the other; None
    where there is none."""
    given = last.output_shape
    if first.op != last.op or len(read) != len(given):
        return None
    if first.op == "linear":
        if read[:-1] != given[:-1]:
            return None
        ends = {"in_features": read[-1], "out_features": given[-1], "bias": False}
        return "Linear", ends, (given[-1], read[-1])
    if first.op not in CONVOLUTIONS:
        return None
    stride = [-(-old // new) for old, new in zip(read[2:], given[2:], strict=True)]
    left = [(old - 1) // step + 1 for old, step in zip(read[2:], stride, strict=True)]
    if left != list(given[2:]) or len(left) != CONVOLUTIONS[first.op]:
        return None
    args: dict[str, Any] = {"in_channels": read[1], "out_channels": given[1], "kernel_size": 1}
    args |= {"stride": stride, "bias": False}
    return f"Conv{len(left)}d", args, (given[1], read[1], *(1 for _ in left))


def _free_name(case: Case, layer: str) -> str:
    """What the model has no module of."""
    name = f"{module_name(layer)}_{PROJECTION}"
    while name in case.modules():
        name += "_"
    return name


def reads(layer: LayerMeasurements) -> int:
    """Features or channels that go in."""
    weight = max(own_parameters(layer), key=lambda p: len(p.shape))
    return weight.shape[0] if layer.op.startswith("conv_transpose") else weight.shape[1]


def gives(layer: LayerMeasurements) -> int:
    """Units or channels that come out."""
    weight = max(own_parameters(layer), key=lambda p: len(p.shape))
    return weight.shape[1] if layer.op.startswith("conv_transpose") else weight.shape[0]
