"""What an exported program (.pt2) says of itself: its inputs, its batch, its mode.

Read from the JSON that torch.export.save writes (torch/_export/serde/schema.py, version 8): no
tensor is loaded, nothing is unpickled or run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.domain.errors import InvalidRequest, ShapeMismatch
from service.domain.probe_plan import InputPlan, ProbePlan

USUAL_BATCH = 64
"""A program that takes no batch as large, or none as small, gets the nearest that it takes."""
LARGEST_SIZE = 2**31 - 1
"""Of one dimension."""

_DTYPES: Mapping[int, str] = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
}
"""Numbers of torch's ScalarType as the schema has them."""
_HIGHS: Mapping[str, int] = {"uint8": 256}
"""Bytes are pixels."""
_MODE_FLAGS = frozenset({"training", "train"})
"""Arguments of ATen operators that say whether they train."""


class UnreadableProgram(ValueError):
    """The JSON is not what torch.export.save writes."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One size of an input."""

    size: int
    """What the program was exported with."""
    low: int
    """Smallest size it takes."""
    high: int
    """Largest."""

    @property
    def fixed(self) -> bool:
        """It takes this one size."""
        return self.low == self.high

    def takes(self, size: int) -> bool:
        """Whether an input may be as large."""
        return self.low <= size <= self.high

    def __str__(self) -> str:
        if self.fixed:
            return str(self.size)
        return f"{self.low} … {'' if self.high == LARGEST_SIZE else self.high}".rstrip()


@dataclass(frozen=True, slots=True)
class ProgramInput:
    """One input, batch dimension left out."""

    name: str
    """As the model's forward calls it."""
    sizes: tuple[Dimension, ...]
    """Of one sample."""
    dtype: str
    """A torch dtype's name."""
    high: int | None
    """Integers are drawn from 0 … high-1: the rows of the embedding that they look up."""

    def plan(self) -> InputPlan:
        """How it is drawn when nobody says otherwise."""
        return InputPlan(tuple(one.size for one in self.sizes), self.dtype, high=self.high)

    def misfit(self, given: InputPlan) -> str | None:
        """What is wrong with a caller's description; None: it fits."""
        fits = len(given.shape) == len(self.sizes) and all(
            mine.takes(size) for mine, size in zip(self.sizes, given.shape, strict=True)
        )
        if fits and given.dtype == self.dtype:
            return None
        sizes = ", ".join(map(str, self.sizes))
        return (
            f"the exported program takes {self.dtype} [{sizes}] as {self.name}, "
            f"not {given.dtype} {list(given.shape)}"
        )


@dataclass(frozen=True, slots=True)
class Program:
    """A program's own description."""

    inputs: tuple[ProgramInput, ...]
    """Tensors, in the order of the call."""
    batch: Dimension
    """First dimension of every input."""
    trains: bool | None
    """The mode it was exported in, told by its dropouts and normalizations; None: it has none."""

    def fitted(self, plan: ProbePlan) -> ProbePlan:
        """The plan with the program's inputs where none were given, and a batch size it takes.

        Raises InvalidRequest with pointers into the request.
        """
        self._check_inputs(plan.inputs)
        inputs = plan.inputs or tuple(one.plan() for one in self.inputs)
        return replace(plan, inputs=inputs, batch_size=self._batch_size(plan.batch_size))

    def notes(self, mode: str) -> tuple[str, ...]:
        """What the export fixed, against what was asked for (train, eval or as_saved)."""
        notes = []
        if self.batch.fixed:
            notes.append(
                f"batch_size: the program was exported for batches of {self.batch.size} and takes "
                "no other; one exported with torch.export.Dim as its batch dimension takes any"
            )
        if self.trains is not None and mode != "as_saved" and self.trains != (mode == "train"):
            exported = "training" if self.trains else "evaluation"
            notes.append(
                f"mode: the program was exported in {exported} mode and is measured so; an export "
                "cannot be switched"
            )
        return tuple(notes)

    def _check_inputs(self, given: tuple[InputPlan, ...]) -> None:
        if given and len(given) != len(self.inputs):
            raise ShapeMismatch(
                f"the exported program takes {len(self.inputs)} inputs, not {len(given)}",
                pointer="/probe/inputs",
            )
        for index, (mine, plan) in enumerate(zip(self.inputs, given, strict=False)):
            if (misfit := mine.misfit(plan)) is not None:
                raise ShapeMismatch(misfit, pointer=f"/probe/inputs/{index}")

    def _batch_size(self, wanted: int | None) -> int | None:
        if wanted is None:
            nearest = min(max(USUAL_BATCH, self.batch.low), self.batch.high)
            return None if nearest == USUAL_BATCH and not self.batch.fixed else nearest
        if not self.batch.takes(wanted):
            raise InvalidRequest(
                f"the program was exported for batches of {self.batch}, not {wanted}",
                pointer="/probe/batch_size",
            )
        return wanted


def program_of(said: Mapping[str, Any]) -> Program:
    """Read the JSON of an exported program. Raises UnreadableProgram, also for programs that
    cannot be probed: without a tensor as input, or whose inputs share no batch dimension."""
    try:
        return _program(said)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UnreadableProgram(f"it is not what torch.export.save writes ({error!r})") from error


def _program(said: Mapping[str, Any]) -> Program:
    graph = said["graph_module"]["graph"]
    ranges = said["range_constraints"]
    metas = {name: graph["tensor_values"][name] for name in _user_inputs(said)}
    if not metas:
        raise UnreadableProgram("it takes no tensor")
    sizes = {
        name: tuple(_dimension(size, ranges) for size in meta["sizes"])
        for name, meta in metas.items()
    }
    looked_up = _looked_up(graph, metas)
    inputs = tuple(
        ProgramInput(name, sizes[name][1:], dtype, _high(dtype, looked_up.get(name)))
        for name, dtype in ((name, _dtype(name, meta)) for name, meta in metas.items())
    )
    return Program(inputs, _batch(sizes), _trains(graph))


def _user_inputs(said: Mapping[str, Any]) -> Iterator[str]:
    for spec in said["graph_module"]["signature"]["input_specs"]:
        if "user_input" not in spec:
            continue
        argument = spec["user_input"]["arg"]
        if "as_tensor" in argument:
            yield argument["as_tensor"]["name"]
        elif argument.keys() & {"as_sym_int", "as_sym_float", "as_sym_bool", "as_custom_obj"}:
            raise UnreadableProgram("it takes something else than tensors and constants")


def _dimension(size: Mapping[str, Any], ranges: Mapping[str, Any]) -> Dimension:
    if "as_int" in size:
        fixed = _whole(size["as_int"])
        return Dimension(fixed, fixed, fixed)
    expression = size["as_expr"]
    hint = expression.get("hint")
    if hint is None:
        raise UnreadableProgram(f"a size is {expression['expr_str']} and nothing says how large")
    exported = _whole(hint["as_int"])
    bounds = next((ranges[name] for name in ranges if _is(expression["expr_str"], name)), None)
    if bounds is None:
        # Twice another size, or one more than it: only the size it was exported with is sure.
        return Dimension(exported, exported, exported)
    low, high = bounds["min_val"], bounds["max_val"]
    return Dimension(
        exported,
        min(exported, max(1, low or 0)),
        LARGEST_SIZE if high is None else max(exported, min(high, LARGEST_SIZE)),
    )


def _is(expression: str, symbol: str) -> bool:
    """A symbol alone, written plainly or as sympy's srepr."""
    return expression == symbol or expression.startswith(f"Symbol('{symbol}',")


def _whole(size: object) -> int:
    if type(size) is not int or not 0 < size <= LARGEST_SIZE:
        raise UnreadableProgram(f"a size is {size!r}")
    return size


def _dtype(name: str, meta: Mapping[str, Any]) -> str:
    if meta["dtype"] not in _DTYPES:
        raise UnreadableProgram(f"its input {name} has a dtype that cannot be drawn")
    return _DTYPES[meta["dtype"]]


def _high(dtype: str, looked_up: int | None) -> int | None:
    if "int" not in dtype:
        return None
    return looked_up or _HIGHS.get(dtype, 2)


def _batch(sizes: Mapping[str, tuple[Dimension, ...]]) -> Dimension:
    first = {name: own[0] if own else None for name, own in sizes.items()}
    if None in first.values() or len({one and (one.size, one.fixed) for one in first.values()}) > 1:
        said = ", ".join(f"{name} [{', '.join(map(str, own))}]" for name, own in sizes.items())
        raise UnreadableProgram(f"its inputs share no first dimension, the batch: {said}")
    return next(one for one in first.values() if one is not None)


def _looked_up(graph: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, int]:
    """Rows of the smallest embedding that each input, or what is reckoned from it in integers,
    looks up."""
    origins = {name: {name} for name in inputs}
    rows: dict[str, int] = {}
    for node in graph["nodes"]:
        arguments = {one["name"]: _tensor(one["arg"]) for one in node["inputs"]}
        came_from = {
            origin
            for name in arguments.values()
            if name is not None
            for origin in origins.get(name, ())
        }
        if node["target"].startswith("torch.ops.aten.embedding."):
            size = graph["tensor_values"][arguments["weight"]]["sizes"][0].get("as_int")
            for origin in came_from if type(size) is int and size > 0 else ():
                rows[origin] = min(rows.get(origin, size), size)
            continue
        for output in node["outputs"]:
            name = _tensor(output)
            if name is not None and "int" in _DTYPES.get(graph["tensor_values"][name]["dtype"], ""):
                origins[name] = came_from
    return rows


def _tensor(argument: Mapping[str, Any]) -> str | None:
    name = argument.get("as_tensor", {}).get("name")
    return name if isinstance(name, str) else None


def _trains(graph: Mapping[str, Any]) -> bool | None:
    flags = {
        argument["arg"]["as_bool"]
        for node in graph["nodes"]
        for argument in node["inputs"]
        if argument["name"] in _MODE_FLAGS and "as_bool" in argument["arg"]
    }
    if any("_no_training" in node["target"] for node in graph["nodes"]):
        flags.add(False)
    return True in flags if flags else None


def answer_named(name: str, out_spec: str) -> int | None:
    """Which tensor of an answer that is a mapping has this name; None where it is no mapping, or
    has none. `out_spec`: how torch.utils._pytree writes what a model returns."""
    try:
        _, spec = json.loads(out_spec)
        keys, parts = json.loads(spec["context"]), spec["children_spec"]
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(keys, list) or name not in keys or len(keys) != len(parts):
        return None
    return sum(_leaves(part) for part in parts[: keys.index(name)])


def _leaves(spec: Mapping[str, Any]) -> int:
    if spec["type"] is None:
        return 1
    return sum(map(_leaves, spec["children_spec"]))
