"""Keras layers that merge several inputs."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.keras.step import Flow, Step


def merging(kind: str) -> Callable[[Step], None]:
    """Add, Multiply."""

    def translate(step: Step) -> None:
        _alike(step)
        step.join(kind, {}, step.inputs)

    return translate


def subtract(step: Step) -> None:
    """Subtract."""
    _alike(step)
    if len(step.inputs) != 2:
        raise step.refused("it takes two inputs")
    first, second = step.inputs
    step.join("Add", {}, (first, _scaled(step, second, -1.0, "minus")))


def average(step: Step) -> None:
    """Average."""
    _alike(step)
    step.join("Add", {}, step.inputs, suffix="sum")
    step.add("Scale", {"factor": 1.0 / len(step.inputs)})


def largest(step: Step) -> None:
    """Maximum, of two at a time: max(a, b) = a + relu(b − a)."""
    _alike(step)
    found = step.inputs[0]
    for other in step.inputs[1:]:
        minus = _scaled(step, found, -1.0, "minus")
        step.join("Add", {}, (other, minus), suffix="difference")
        step.add("ReLU", {}, suffix="above")
        step.join(
            "Add", {}, (found, step.flow), suffix="" if other is step.inputs[-1] else "so_far"
        )
        found = step.flow


def smallest(step: Step) -> None:
    """Minimum, of two at a time: min(a, b) = a − relu(a − b)."""
    _alike(step)
    found = step.inputs[0]
    for other in step.inputs[1:]:
        minus = _scaled(step, other, -1.0, "minus")
        step.join("Add", {}, (found, minus), suffix="difference")
        step.add("ReLU", {}, suffix="above")
        step.add("Scale", {"factor": -1.0}, suffix="less")
        step.join(
            "Add", {}, (found, step.flow), suffix="" if other is step.inputs[-1] else "so_far"
        )
        found = step.flow


def dot(step: Step) -> None:
    """Dot of two vectors."""
    _alike(step)
    shapes = [one.tensor.shape for one in step.inputs]
    if len(shapes) != 2 or any(len(shape) != 1 for shape in shapes):
        raise step.refused("only two vectors can be multiplied so", "axes")
    if step.option("normalize", False):
        raise step.refused("it is not supported", "normalize")
    first, second = step.inputs
    size = shapes[0][0]
    row = _turned(step, first, [1, size], "row")
    column = _turned(step, second, [size, 1], "column")
    step.join("MatMul", {}, (row, column), suffix="product")
    step.add("Flatten", {})


def concatenate(step: Step) -> None:
    """Concatenate."""
    _alike(step)
    step.join("Concat", {"dim": step.dim(step.option("axis", -1), "axis")}, step.inputs)


def _scaled(step: Step, flow: Flow, factor: float, suffix: str) -> Flow:
    step.join("Scale", {"factor": factor}, (flow,), suffix=suffix)
    return step.flow


def _turned(step: Step, flow: Flow, sizes: list[int], suffix: str) -> Flow:
    step.join("Unflatten", {"dim": 1, "unflattened_size": sizes}, (flow,), suffix=suffix)
    return step.flow


def _alike(step: Step) -> None:
    if len(step.inputs) < 2:
        raise step.refused("it takes two inputs or more")
    if len({one.first for one in step.inputs if len(one.tensor.shape) > 1}) > 1:
        raise step.refused("one input has its channels first and another last")
