"""Files of tensors, told by their headers: a batch of real data, the weights of a spec.

What does not fit is refused when it is asked for, before anything is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count, takewhile

from service.domain.architecture import Architecture, LayerNode
from service.domain.errors import InvalidRequest, ShapeMismatch
from service.domain.layers import LAYER_TYPES
from service.domain.probe_plan import InputPlan

MAX_TOLD = 3
"""Names told in one sentence; the rest are counted."""
MAX_NAME = 100
"""Characters told of a name."""

_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a file."""

    dtype: str
    """A torch dtype's name."""
    shape: tuple[int, ...]
    """Sizes; () is a single number."""

    @property
    def is_floating(self) -> bool:
        """float64 … bfloat16; complex numbers are not."""
        return "float" in self.dtype

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


Tensors = Mapping[str, TensorHeader]
"""What a file holds, by name."""


def check_data(tensors: Tensors, wanted: tuple[InputPlan, ...]) -> None:
    """A batch: `x` (or `x0`, `x1`, …) with a row per sample and perhaps `y`, nothing else.

    `wanted`: what the model takes, per sample; empty when only the data shows it.
    Raises InvalidRequest, ShapeMismatch.
    """
    names = _inputs(tensors)
    _check_rows({name: tensors[name] for name in (*names, "y") if name in tensors})
    if not wanted:
        return
    if len(wanted) != len(names):
        raise ShapeMismatch(f"the model takes {len(wanted)} inputs, the data has {len(names)}")
    for name, plan in zip(names, wanted, strict=True):
        _check_sample(name, tensors[name], plan)


def check_weights(tensors: Tensors, architecture: Architecture) -> None:
    """Every parameter of the architecture, named layer.parameter, and nothing that is neither a
    parameter nor a buffer. Buffers may be left out: they keep the values of a fresh module.

    Raises InvalidRequest, ShapeMismatch for shapes alone.
    """
    parameters = {
        f"{node.name}.{name}": shape
        for node in architecture.layers
        for name, shape in node.stored.items()
    }
    known = parameters | _buffers(architecture)
    given = {name: tensors[name] for name in known if name in tensors}
    misshapen = _told(
        "of another shape",
        (
            f"{_cut(name)} is {list(one.shape)}, not {list(known[name])}"
            for name, one in given.items()
            if one.shape != known[name]
        ),
    )
    faults = (
        _told("missing", (name for name in parameters if name not in tensors)),
        _told("unexpected", (name for name in tensors if name not in known)),
        _told(
            "not floating-point",
            (name for name in parameters if name in given and not given[name].is_floating),
        ),
    )
    if any(faults):
        raise InvalidRequest(_sentence((*faults, misshapen)))
    if misshapen:
        raise ShapeMismatch(_sentence((misshapen,)))


def _inputs(tensors: Tensors) -> tuple[str, ...]:
    numbered = takewhile(tensors.__contains__, (f"x{index}" for index in count()))
    names = ("x",) if "x" in tensors else tuple(numbered)
    if not names:
        found = _listed(sorted(tensors)) or "nothing"
        raise InvalidRequest(f"the data has no x (or x0, x1, …), only {found}")
    if others := sorted(tensors.keys() - {*names, "y"}):
        raise InvalidRequest(
            f"{_listed(others)}: neither x (or x0, x1, … without a gap) nor y, "
            "which is all that a file of data may have"
        )
    return names


def _check_rows(tensors: Tensors) -> None:
    for name, one in tensors.items():
        if "complex" in one.dtype:
            raise InvalidRequest(f"{name} is {one.dtype}; complex numbers are not supported")
        if not one.shape:
            raise ShapeMismatch(f"{name} is a single number; it must have a row per sample")
    rows = {name: one.shape[0] for name, one in tensors.items()}
    if len({*rows.values()}) != 1 or 0 in rows.values():
        told = ", ".join(f"{name} has {number}" for name, number in rows.items())
        raise ShapeMismatch(f"x and y must have the same number of rows, at least one: {told}")


def _check_sample(name: str, tensor: TensorHeader, plan: InputPlan) -> None:
    sample = TensorHeader(tensor.dtype, tensor.shape[1:])
    if sample.shape != plan.shape or not _becomes(tensor.dtype, plan.dtype):
        raise ShapeMismatch(
            f"a sample of {name} is {sample}, the model takes {plan.dtype} {list(plan.shape)}"
        )


def _becomes(dtype: str, wanted: str) -> bool:
    """Anything real may become floating-point; indices are not made by rounding."""
    if wanted == "bool":
        return dtype == "bool"
    return dtype in _INTEGERS or "float" in wanted


def _buffers(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    return {
        f"{node.name}.{name}": shape
        for node in architecture.layers
        for name, shape in _running_statistics(node).items()
    }


def _running_statistics(node: LayerNode) -> dict[str, tuple[int, ...]]:
    """Buffers of batch and instance normalization and of spectral_norm: nothing else has any."""
    args = LAYER_TYPES[node.type].signature.complete(node.args)
    if node.shares is None and args.get("track_running_stats"):
        sizes = (args["num_features"],)
        return {"running_mean": sizes, "running_var": sizes, "num_batches_tracked": ()}
    return _singular_vectors(node)


def _singular_vectors(node: LayerNode) -> dict[str, tuple[int, ...]]:
    """Those that spectral_norm follows a weight by: of its rows along `dim`, and of the rest."""
    found: dict[str, tuple[int, ...]] = {}
    for name, how in node.parametrizations.items():
        shape = node.parameters[name]
        if how.name == "spectral_norm" and len(shape) > 1:
            # torch takes the outputs of a transposed convolution, which stand second
            usual = 1 if node.type.startswith("ConvTranspose") else 0
            dim = how.args.get("dim")
            rows = shape[usual if dim is None else dim]
            below = f"parametrizations.{name}.0"
            found[f"{below}._u"] = (rows,)
            found[f"{below}._v"] = (math.prod(shape) // rows,)
    return found


def _told(what: str, names: Iterable[str]) -> str:
    listed = _listed(names)
    return f"{what}: {listed}" if listed else ""


def _sentence(faults: Iterable[str]) -> str:
    return "the weights do not fit the spec; " + "; ".join(filter(None, faults))


def _listed(names: Iterable[str]) -> str:
    every = [*names]
    more = f" and {len(every) - MAX_TOLD} more" if len(every) > MAX_TOLD else ""
    return ", ".join(map(_cut, every[:MAX_TOLD])) + more


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[:MAX_NAME] + "…"
