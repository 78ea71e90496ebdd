"""Which layers a skip goes around, and how."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.domain.architecture import resolve
from service.domain.measurements import Measurements
from service.recommendation.blocks import Block, blocks_of
from service.recommendation.case import Case
from tests.unit.recommendation.remedy_cases import diagnosis, linear, measured, recurrent

Spec = dict[str, Any]


def chain(*widths: int, read: int = 64) -> Spec:
    """Linear layers of these widths with ReLU between them."""
    layers: list[Spec] = []
    for number, width in enumerate(widths):
        layers += [linear(f"fc{number}", width), {"name": f"act{number}", "type": "ReLU"}]
    return {"input": {"shape": [read]}, "layers": layers[:-1]}


def images(*convolutions: tuple[int, int], pool: bool = False) -> Spec:
    """Convolutions of so many channels and such a stride, one more, and a head of 10."""
    layers: list[Spec] = []
    for number, (channels, stride) in enumerate((*convolutions, (6, 1))):
        args = {"out_channels": channels, "kernel_size": 3, "padding": 1, "stride": stride}
        layers += [
            {"name": f"conv{number}", "type": "Conv2d", "args": args},
            {"name": f"act{number}", "type": "ReLU"},
        ]
        if pool and number == 1:
            layers.append({"name": "pool", "type": "MaxPool2d", "args": {"kernel_size": 2}})
    layers += [{"name": "flat", "type": "Flatten"}, linear("head", 10)]
    return {"input": {"shape": [3, 8, 8]}, "layers": layers}


def case(spec: Spec, numbers: Measurements | None = None) -> Case:
    architecture = resolve(spec)
    return Case(
        diagnosis("narrow_layer"), numbers or measured(architecture), architecture, 64, None
    )


def found(spec: Spec) -> list[tuple[str, ...]]:
    """The blocks' layers; a projection stands for itself at their end."""
    return [told(block) for block in blocks_of(case(spec))]


def told(block: Block) -> tuple[str, ...]:
    names = tuple(layer.name for layer in block.layers)
    return (*names, block.projection.type) if block.projection else names


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [
        (chain(64, 64, 64, 10), [("fc1",), ("fc2",)]),
        (chain(64, 32, 16, 10), []),
        (chain(64, 32, 10), []),
        (chain(64, 4, 64, 10), [("fc1", "fc2")]),
        (chain(64, 1, 10), [("fc1", "fc2", "Linear")]),
        (chain(64, 4, 4, 10), [("fc2",)]),
        (chain(64, 4, 3, 10), [("fc1", "fc2", "fc3", "Linear")]),
        (chain(64, 32, 4, 32, 10), [("fc2", "fc3")]),
        (chain(64, 4, 32, 10), [("fc1", "fc2", "Linear")]),
        (chain(2, 64, 64, 10), [("fc0", "fc1", "Linear"), ("fc2",)]),
        (chain(64, 1, 64, 1, 10), [("fc1", "fc2"), ("fc3", "fc4", "Linear")]),
        (images((8, 1), (1, 1), (16, 1)), [("conv1", "conv2", "Conv2d")]),
        (images((8, 1), (1, 2), (64, 2)), [("conv1", "conv2", "Conv2d")]),
        (images((8, 1), (1, 1), (16, 1), pool=True), [("conv1", "conv2", "Conv2d")]),
        (images((8, 1), (8, 1), (8, 1)), [("conv1",), ("conv2",)]),
        (chain(1, 10), [("fc0", "fc1", "Linear")]),
        (recurrent("GRU"), []),
    ],
    ids=str,
)
def test_blocks(spec: Spec, blocks: list[tuple[str, ...]]) -> None:
    assert found(spec) == blocks


@pytest.mark.parametrize(
    ("spec", "args", "shape"),
    [
        (chain(64, 1, 10), {"in_features": 64, "out_features": 10}, (10, 64)),
        (chain(2, 64, 10, read=5), {"in_features": 5, "out_features": 64}, (64, 5)),
        (
            images((8, 1), (1, 2), (64, 2)),
            {"in_channels": 8, "out_channels": 64, "kernel_size": 1, "stride": [4, 4]},
            (64, 8, 1, 1),
        ),
        (
            images((8, 1), (1, 1), (16, 1), pool=True),
            {"in_channels": 8, "out_channels": 16, "kernel_size": 1, "stride": [2, 2]},
            (16, 8, 1, 1),
        ),
    ],
    ids=["head", "input", "stride", "pool"],
)
def test_a_projection_has_the_shape_of_the_block(
    spec: Spec, args: Spec, shape: tuple[int, ...]
) -> None:
    (block,) = (one for one in blocks_of(case(spec)) if one.projection)
    assert block.projection is not None
    assert block.projection.args == {**args, "bias": False}
    assert block.projection.shape == shape
    assert block.projection.draw.shape == shape
    assert block.projection.draw.rms == pytest.approx(shape[1] ** -0.5, rel=1e-5)


@pytest.mark.parametrize("squashed", ["log_softmax", "sigmoid"])
def test_nothing_is_added_behind_what_squashes_the_output(squashed: str) -> None:
    spec = chain(64, 1, 10)
    before = measured(resolve(spec))
    numbers = replace(before, model=replace(before.model, output_op=squashed))
    assert blocks_of(case(spec, numbers)) == ()


def test_a_name_that_is_taken_is_not_given() -> None:
    spec = chain(64, 1, 10)
    spec["layers"][0]["name"] = "fc2_projection"
    (block,) = blocks_of(case(spec))
    assert block.projection is not None
    assert block.projection.name == "fc2_projection_"
