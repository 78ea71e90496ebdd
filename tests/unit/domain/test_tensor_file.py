"""Does a batch, or a checkpoint, fit what is asked of it?"""

from __future__ import annotations

from typing import Any

import pytest

from service.domain.architecture import resolve
from service.domain.errors import InvalidRequest, ShapeMismatch
from service.domain.probe_plan import InputPlan
from service.domain.tensor_file import TensorHeader, check_data, check_weights

FLOATS, INDICES = InputPlan((4,)), InputPlan((5,), "int64", high=9)


def floats(*shape: int) -> TensorHeader:
    return TensorHeader("float32", shape)


def whole(*shape: int) -> TensorHeader:
    return TensorHeader("int64", shape)


@pytest.mark.parametrize(
    ("tensors", "wanted"),
    [
        ({"x": floats(3, 4)}, (FLOATS,)),
        ({"x0": floats(3, 4), "y": whole(3)}, (FLOATS,)),
        ({"x": TensorHeader("uint8", (3, 4))}, (FLOATS,)),
        ({"x": TensorHeader("bool", (3, 4))}, (InputPlan((4,), "bool"),)),
        ({"x": TensorHeader("int16", (3, 5))}, (INDICES,)),
        ({"x1": whole(3, 5), "x0": floats(3, 4)}, (FLOATS, INDICES)),
        ({"x": floats(1, 7, 7), "y": floats(1, 2)}, ()),
    ],
)
def test_a_batch_that_fits(tensors: dict[str, TensorHeader], wanted: tuple[InputPlan, ...]) -> None:
    check_data(tensors, wanted)


@pytest.mark.parametrize(
    ("tensors", "wanted", "says"),
    [
        ({}, (), "no x .* only nothing"),
        ({"z": floats(3, 4), "y": whole(3)}, (), "no x .* only y, z"),
        ({"x1": floats(3, 4)}, (), "no x"),
        ({"x": floats(3, 4), "labels": whole(3)}, (), "labels: neither"),
        ({"x": floats(3, 4), "x1": floats(3, 4)}, (), "x1: neither"),
        ({"x0": floats(3, 4), "x2": floats(3, 4)}, (), "without a gap"),
        ({"x": floats()}, (), "x is a single number"),
        ({"x": floats(3, 4), "y": whole()}, (), "y is a single number"),
        ({"x": floats(3, 4), "y": whole(2)}, (), "x has 3, y has 2"),
        ({"x0": floats(3, 4), "x1": floats(2, 4)}, (), "x0 has 3, x1 has 2"),
        ({"x": floats(0, 4)}, (), "at least one"),
        ({"x": TensorHeader("complex64", (3, 4))}, (), "complex"),
        ({"x": floats(3, 4)}, (FLOATS, FLOATS), "takes 2 inputs, the data has 1"),
        (
            {"x": floats(3, 5)},
            (FLOATS,),
            r"a sample of x is float32 \[5\], the model takes float32 \[4\]",
        ),
        ({"x": floats(3, 5)}, (INDICES,), r"float32 \[5\], the model takes int64 \[5\]"),
        ({"x": TensorHeader("bool", (3, 5))}, (INDICES,), r"bool \[5\], .* int64"),
        ({"x": whole(3, 4)}, (InputPlan((4,), "bool"),), "the model takes bool"),
        ({"x" * 5000: floats(3)}, (), "x{100}…$"),
    ],
)
def test_a_batch_that_does_not_fit_says_why(
    tensors: dict[str, TensorHeader], wanted: tuple[InputPlan, ...], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        check_data(tensors, wanted)


SPEC: dict[str, Any] = {
    "input": {"shape": [3, 8, 8]},
    "layers": [
        {"name": "conv", "type": "Conv2d", "args": {"out_channels": 2, "kernel_size": 3}},
        {"name": "norm", "type": "BatchNorm2d"},
        {"name": "free", "type": "BatchNorm2d", "args": {"track_running_stats": False}},
        {"name": "flat", "type": "Flatten"},
        {
            "name": "body",
            "repeat": 2,
            "layers": [{"name": "fc", "type": "Linear", "args": {"out_features": 72}}],
        },
    ],
}
PARAMETERS = {
    "conv.weight": floats(2, 3, 3, 3),
    "conv.bias": floats(2),
    "norm.weight": floats(2),
    "norm.bias": floats(2),
    "free.weight": floats(2),
    "free.bias": floats(2),
    "body.0.fc.weight": floats(72, 72),
    "body.0.fc.bias": floats(72),
    "body.1.fc.weight": floats(72, 72),
    "body.1.fc.bias": TensorHeader("bfloat16", (72,)),
}
BUFFERS = {
    "norm.running_mean": floats(2),
    "norm.running_var": floats(2),
    "norm.num_batches_tracked": whole(),
}


def test_weights_fit_with_and_without_buffers() -> None:
    architecture = resolve(SPEC)
    check_weights(PARAMETERS, architecture)
    check_weights(PARAMETERS | BUFFERS, architecture)
    check_weights(PARAMETERS | {"norm.running_var": floats(2)}, architecture)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "missing: conv.weight, conv.bias, norm.weight and 7 more$"),
        (
            {name: one for name, one in PARAMETERS.items() if name != "conv.bias"},
            "missing: conv.bias$",
        ),
        (PARAMETERS | {"head.weight": floats(1)}, "unexpected: head.weight$"),
        (PARAMETERS | {"free.running_mean": floats(2)}, "unexpected: free.running_mean$"),
        (PARAMETERS | {"conv.bias": whole(2)}, "not floating-point: conv.bias$"),
        (
            PARAMETERS | {"extra": floats(), "conv.bias": floats(3)},
            r"unexpected: extra; of another shape: conv.bias is \[3\], not \[2\]$",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tensors: dict[str, TensorHeader], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        check_weights(tensors, resolve(SPEC))


def test_another_shape_alone_is_a_shape_mismatch() -> None:
    wrong = {"conv.weight": floats(2, 3, 5, 5), "norm.running_mean": floats(3)}
    with pytest.raises(ShapeMismatch, match=r"\[2, 3, 5, 5\], not .*, norm.running_mean is \[3\]"):
        check_weights(PARAMETERS | BUFFERS | wrong, resolve(SPEC))
