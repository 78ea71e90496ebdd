"""Hypothesis strategies: architecture specs that are right, and specs with something wrong.

Every layer is drawn from the table of layer types and kept when the table lets it stand on what
flows there; groups, names, inputs and initializations are drawn on top.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from service.domain.grammar.initialization import assign
from service.domain.layers import LAYER_TYPES
from service.domain.layers.initializers import INITIALIZERS, DoesNotFit, Parameter
from service.domain.layers.kinds import (
    Choice,
    Each,
    Either,
    Flag,
    Kind,
    Nested,
    Null,
    OnlyFalse,
    Real,
    Whole,
)
from service.domain.layers.layer_type import Applied, LayerType, Takes
from service.domain.layers.parametrization import PARAMETRIZATIONS, PARAMETRIZED
from service.domain.layers.signature import Argument, BadArgument
from service.domain.layers.tensor import Misfit, Shape, Tensor, elements

Spec = dict[str, Any]

MAX_ELEMENTS = 1_024
"""Numbers in one layer's output for one sample …"""
MAX_PARAMETERS = 20_000
"""… and in one layer's parameters: a probe of such a network takes milliseconds."""
LONGEST = 8
"""Layers and groups in the outermost list."""
MAX_SIZE = 64
"""Largest size that is drawn again as an argument."""
MAX_RANK = 5
"""Dimensions of one sample: torch's convolutions and pools know no more."""
MAX_DEPTH = 2
"""Groups within groups."""
MAX_PATH = 12
"""Steps down to which a document is spoiled."""
TRIES = 4
"""Draws for one layer; where none fits there is no layer."""
NAMES = (
    *("fc", "conv1", "sum", "out", "body", "stem", "_", "0", "conv-1", "Größe"),
    *("train", "half", "weight", "forward", "self", "type", "__class__"),
)
"""Good names, some of them with a meaning to torch or Python."""

REPEATABLE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The same examples in every run, however busy the machine."""


@dataclass(frozen=True, slots=True)
class Network:
    """A spec, and what it must turn out to be."""

    spec: Spec
    output: Tensor
    layers: int
    """After groups are unrolled."""


def values(kind: Kind, sizes: Sequence[int]) -> st.SearchStrategy[Any]:
    """Small values of one kind, the sizes of what flows there among them."""
    match kind:
        case Whole(low, high):
            usual = (-2, -1, 0, 1, 2, 3, 4, 6, *sizes)
            return st.sampled_from([n for n in dict.fromkeys(usual) if low <= n <= high])
        case Real(low, high, above):
            floor = low if above is None else max(low, above + 1e-9)
            numbers = (-0.5, 0, 0.25, 0.5, 1.0, 2)
            return st.sampled_from([x for x in numbers if floor <= x <= high])
        case Flag():
            return st.booleans()
        case OnlyFalse():
            return st.just(False)
        case Null():
            return st.none()
        case Choice(words):
            return st.sampled_from(words)
        case Each(item, counts):
            return st.sampled_from(counts[:4]).flatmap(
                lambda count: st.lists(values(item, sizes), min_size=count, max_size=count)
            )
        case Either(kinds):
            return st.one_of([values(one, sizes) for one in kinds])
        case Nested(types):
            return st.sampled_from(types).flatmap(
                lambda name: st.fixed_dictionaries(
                    {"type": st.just(name), "args": arguments(LAYER_TYPES[name].arguments, sizes)}
                )
            )
    raise AssertionError(f"no values for {kind}")


@st.composite
def arguments(
    draw: st.DrawFn, known: Sequence[Argument], sizes: Sequence[int] = ()
) -> dict[str, Any]:
    """Those that must be given and some of the others."""
    shares = {argument: 12 if argument.infer else 4 for argument in known}
    return {
        argument.name: draw(values(argument.kind, sizes))
        for argument in known
        if argument.required or draw(st.integers(1, shares[argument])) == 1
    }


@st.composite
def samples(draw: st.DrawFn) -> tuple[Tensor, Spec]:
    """What comes in, and how a spec writes it."""
    shape = draw(
        st.one_of(
            st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=3),
            st.sampled_from([[16], [64], [8, 8], [1, 8, 8], [3, 8, 8], [2, 4, 4, 4]]),
        )
    )
    dtype = draw(st.sampled_from(["float32", "float32", "float32", "int64", "int32"]))
    written: Spec = {"shape": shape}
    if dtype != "float32" or draw(st.booleans()):
        written["dtype"] = dtype
    if dtype != "float32" and draw(st.booleans()):
        written["high"] = 1
    return Tensor(tuple(shape), dtype), written


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    names: Sequence[str] = NAMES,
) -> Network:
    """Chains and graphs of layers of these types."""
    sample, written = draw(samples())
    if sample.dtype == "float32" and draw(st.integers(1, 5)) == 1:
        return _two_inputs(draw, names, sample, written)
    drawn = _List(draw, names, sample, {"input": sample})
    drawn.fill(draw(st.integers(2, LONGEST)), depth=0)
    return Network({"input": written, "layers": drawn.entries}, drawn.current, drawn.count)


def _two_inputs(draw: st.DrawFn, names: Sequence[str], sample: Tensor, written: Spec) -> Network:
    """Both are read; `input` is the first."""
    called = draw(st.sampled_from([["left", "right"], ["x", "inputs"], ["self", "image-2"]]))
    inputs = [{"name": name, **written} for name in called]
    drawn = _List(draw, names, sample, dict.fromkeys((*called, "input"), sample))
    drawn.taken = frozenset(called)
    merge = draw(st.sampled_from(["Add", "Multiply"]))
    drawn.append_named("both", {"type": merge, "inputs": called})
    drawn.visible["both"] = sample
    drawn.fill(draw(st.integers(2, LONGEST)), depth=0)
    return Network({"input": inputs, "layers": drawn.entries}, drawn.current, drawn.count)


class _List:
    """One list of layers in the making."""

    def __init__(
        self, draw: st.DrawFn, types: Sequence[str], incoming: Tensor, visible: Mapping[str, Tensor]
    ) -> None:
        self.draw = draw
        self.types = types
        self.current = incoming
        """What the layer above gives."""
        self.visible = dict(visible)
        """What `inputs` may name here."""
        self.entries: list[Spec] = []
        self.count = 0
        """Layers after groups are unrolled."""
        self.names: set[str] = set()
        self.taken: frozenset[str] = frozenset()
        """Names of the network's inputs, where there are several."""
        self.shareable: dict[str, tuple[LayerType, Applied, Spec]] = {}
        """Layers of this list with parameters, and what their forward is called with."""

    def fill(self, length: int, depth: int) -> None:
        """Append some layers, at least one, the last of which gives no integers."""
        for _ in range(length):
            what = self.draw(st.sampled_from(["layer"] * 5 + ["merge", "group", "again"]))
            if what == "group" and depth < MAX_DEPTH:
                self._group(depth + 1)
            elif what == "again" and self.shareable:
                self._again()
            else:
                self._layer(_MERGES if what == "merge" else _OTHERS)
        if self.current.is_integer:
            table = {"num_embeddings": 3, "embedding_dim": 2}
            self._append({"type": "Embedding", "args": table}, Tensor((*self.current.shape, 2)), 1)
        if not self.entries:
            self._append({"type": "Tanh"}, self.current, 1)

    def _layer(self, types: Sequence[LayerType]) -> None:
        for _ in range(TRIES):
            sources = self._sources()
            families: dict[str, list[LayerType]] = {}
            for layer_type in types:
                if _stands_on(layer_type, self.visible[sources[0]] if sources else self.current):
                    families.setdefault(layer_type.category, []).append(layer_type)
            if not families:
                continue
            family = self.draw(st.sampled_from([*families.values()]))
            drawn = self._drawn_layer(self.draw(st.sampled_from(family)), sources)
            if drawn is not None:
                entry, applied = drawn
                name = self._append(entry, applied.output, 1)
                if applied.parameters:
                    self.shareable[name] = (LAYER_TYPES[entry["type"]], applied, entry)
                return

    def _again(self) -> None:
        """An earlier layer on what is here now, where it fits."""
        name = self.draw(st.sampled_from([*self.shareable]))
        layer_type, before, entry = self.shareable[name]
        count = len(entry.get("inputs", [None]))
        inputs = (self.current,) * count
        applied = _applied(layer_type, before.args, inputs)
        if applied is None or not _calls_fit(layer_type, entry, applied, inputs):
            return
        written: Spec = {"shares": name}
        if count > 1:
            written["inputs"] = [self.name_of_last()] * count
        self._append(written, applied.output, 1)

    def _sources(self) -> list[str]:
        """An earlier layer, or none: the one above."""
        names = [*self.visible]
        return [self.draw(st.sampled_from(names))] if self.draw(st.integers(1, 4)) == 1 else []

    def _drawn_layer(
        self, layer_type: LayerType, sources: list[str]
    ) -> tuple[Spec, Applied] | None:
        """A layer of this type on what is here; None where the arguments do not fit."""
        draw = self.draw
        count = draw(st.sampled_from(layer_type.input_counts or (2, 3)))
        if count > 1:
            first = sources[0] if sources else draw(st.sampled_from([*self.visible]))
            alike = [n for n, tensor in self.visible.items() if tensor == self.visible[first]]
            others = alike if draw(st.integers(1, 4)) > 1 else [*self.visible]
            sources = [first, *(draw(st.sampled_from(others)) for _ in range(count - 1))]
        inputs = tuple(self.visible[name] for name in sources) or (self.current,)
        sizes = {size for tensor in inputs for size in tensor.shape if size <= MAX_SIZE}
        args = draw(arguments(layer_type.arguments, sorted(sizes)))
        applied = _applied(layer_type, args, inputs)
        if applied is None:
            return None
        entry: Spec = {"type": layer_type.name}
        if args or self._tosses():
            entry["args"] = args
        if sources:
            entry["inputs"] = sources
        init = draw(initializations(layer_type.name, applied.parameters))
        if layer_type.must_init and not init:
            init = {name: {"name": "normal_", "args": {}} for name in layer_type.must_init}
        if init:
            entry["init"] = init
        if layer_type.masks and self._tosses():
            entry["forward"] = dict.fromkeys(layer_type.masks, True)
            if not _calls_fit(layer_type, entry, applied, inputs):
                del entry["forward"]
        can = layer_type.category in PARAMETRIZED and applied.args.get("max_norm") is None
        if can and "weight" in applied.parameters and draw(st.integers(1, 6)) == 1:
            how = draw(st.sampled_from([*PARAMETRIZATIONS]))
            entry["parametrizations"] = {"weight": {"name": how}}
        return entry, applied

    def _tosses(self) -> bool:
        return bool(self.draw(st.booleans()))

    def _group(self, depth: int) -> None:
        """Layers that may stand once, or a residual block that may be repeated."""
        draw = self.draw
        outer = {name: tensor for name, tensor in self.visible.items() if name != "input"}
        inside = _List(draw, self.types, self.current, outer | {"input": self.current})
        inside.taken = self.taken
        inside.fill(draw(st.integers(1, 3)), depth)
        entry: Spec = {"layers": inside.entries}
        times = 1
        if inside.current == self.current:
            if draw(st.booleans()):
                above = inside.name_of_last()
                inside.append_named("sum", {"type": "Add", "inputs": [above, "input"]})
            # A name from outside means the same in every repetition.
            entry["repeat"] = times = draw(st.integers(1, 3))
        self._append(entry, inside.current, inside.count * times)

    def name_of_last(self) -> str:
        """What `inputs` calls the layer above."""
        return str(self.entries[-1].get("name", f"layer{len(self.entries) - 1}"))

    def append_named(self, name: str, entry: Spec) -> None:
        """A layer that keeps the shape, called so unless the name is taken."""
        named = {} if name in self.names else {"name": name}
        self.entries.append(named | entry)
        self.count += 1

    def _append(self, entry: Spec, output: Tensor, layers: int) -> str:
        name = f"layer{len(self.entries)}"
        if self.draw(st.booleans()):
            free = [n for n in self.types if n not in self.names | self.taken]
            name = self.draw(st.sampled_from(free))
            entry = {"name": name} | entry
        self.names.add(name)
        self.entries.append(entry)
        self.visible[name] = self.current = output
        self.count += layers
        return name


_MERGES = tuple(t for t in LAYER_TYPES.values() if t.input_counts != (1,))
_OTHERS = tuple(t for t in LAYER_TYPES.values() if t.input_counts == (1,))


def _stands_on(layer_type: LayerType, tensor: Tensor) -> bool:
    low, high = layer_type.ranks
    fits = layer_type.takes in (Takes.ANY, Takes.INTEGERS if tensor.is_integer else Takes.FLOATS)
    return fits and low <= len(tensor.shape) <= (MAX_RANK if high is None else high)


def _calls_fit(
    layer_type: LayerType, entry: Spec, applied: Applied, inputs: tuple[Tensor, ...]
) -> bool:
    try:
        layer_type.check_call(entry.get("forward", {}), applied.args, inputs)
    except (BadArgument, Misfit):
        return False
    return True


def _applied(layer_type: LayerType, args: Spec, inputs: tuple[Tensor, ...]) -> Applied | None:
    if layer_type.signature.faults(args):
        return None
    try:
        applied = layer_type.apply(args, inputs)
    except (BadArgument, Misfit):
        return None
    parameters = sum(map(elements, applied.parameters.values()))
    small = elements(applied.output.shape) <= MAX_ELEMENTS and parameters <= MAX_PARAMETERS
    return applied if small and len(applied.output.shape) <= MAX_RANK else None


@st.composite
def initializations(draw: st.DrawFn, layer_type: str, parameters: Mapping[str, Shape]) -> Spec:
    """An `init` for some of the parameters, by their names or the start of them."""
    if not parameters or draw(st.integers(1, 3)) > 1:
        return {}
    keys = sorted({key for name in parameters for key in (name, name.split("_")[0])})
    drawn = {
        key: draw(_calls())
        for key in draw(st.lists(st.sampled_from(keys), max_size=3, unique=True))
    }
    chosen, _ = assign(drawn, parameters)
    unfit = {
        key
        for name, key in chosen.items()
        if not _fits(drawn[key], Parameter(layer_type, name, parameters[name]))
    }
    # What the longest key leaves to a shorter one changes with the keys, so all or none.
    return {} if unfit else drawn


@st.composite
def _calls(draw: st.DrawFn) -> Spec:
    initializer = INITIALIZERS[draw(st.sampled_from([*INITIALIZERS]))]
    return {"name": initializer.name, "args": draw(arguments(initializer.arguments))}


def _fits(call: Spec, parameter: Parameter) -> bool:
    initializer = INITIALIZERS[call["name"]]
    if initializer.signature.faults(call["args"]):
        return False
    try:
        initializer.check_fit(call["args"], parameter)
    except DoesNotFit:
        return False
    return True


Path = tuple[str | int, ...]

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 7, 2**31, 2**63 - 1, -(2**63), 10**4, 0.5, -0.0, 1e308, 1e-320]),
    st.sampled_from(
        ["", " ", "ReLU", "relu", "input", "layer0", "a.b", "a/b", "~1", "__class__", "x" * 5_000]
    ),
    st.text(max_size=4).filter(lambda text: "\0" not in text),
    st.sampled_from([[], {}, [[]], [1, 2], ["input"], [None], {"type": "ReLU"}, {"layers": []}]),
    st.sampled_from([[1] * 3_000, {"layers": [{"type": "ReLU"}], "repeat": 10**9}]),
    st.integers(2, 40).map(lambda depth: _nested(depth, "layers")),
    st.integers(2, 60).map(lambda depth: _nested(depth, "args")),
)
"""JSON values that stand wrongly almost everywhere."""
FIELDS = st.sampled_from(
    ["name", "type", "args", "init", "inputs", "repeat", "layers", "shape", "high", "Type", "lr"]
)


def _nested(depth: int, name: str) -> Any:
    value: Any = {"type": "ReLU"}
    for _ in range(depth):
        value = {"layers": [value]} if name == "layers" else {name: value}
    return value


@st.composite
def spoiled(draw: st.DrawFn, documents: st.SearchStrategy[Spec]) -> Spec:
    """A document after one to three changes at random places: it is most likely wrong."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, 3))):
        places = [path for path in paths(document) if path]
        if places:
            _spoil(draw, document, draw(st.sampled_from(places)))
    return document


def _spoil(draw: st.DrawFn, document: Spec, path: Path) -> None:
    parent: Any = at(document, path[:-1])
    last: Any = path[-1]
    match draw(st.sampled_from(["replace", "replace", "remove", "add", "repeat"])):
        case "replace":
            parent[last] = copy.deepcopy(draw(JUNK))
        case "remove":
            del parent[last]
        case "add" if isinstance(parent, dict):
            parent[draw(FIELDS)] = copy.deepcopy(draw(JUNK))
        case "add":
            parent.insert(last, copy.deepcopy(draw(JUNK)))
        case _ if isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        case _:
            parent[f"{last}_"] = parent.pop(last)


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON document; of long lists only the beginning."""
    yield path
    if len(path) < MAX_PATH and isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value[:20])
        for step, item in items:
            yield from paths(item, (*path, step))


def at(document: Any, path: Path) -> Any:
    """What stands there. Raises LookupError or TypeError when nothing does."""
    for step in path:
        document = document[step]
    return document


def leads_somewhere(document: Any, pointer: str) -> bool:
    """Whether an RFC 6901 pointer leads to something, or to a field that an object there lacks
    (an argument also where the layer has no `args` at all)."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    missing = steps[-2:] if steps[-2:-1] == ["args"] else steps[-1:]
    for place, step in enumerate(steps):
        if isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            return isinstance(document, dict) and place >= len(steps) - len(missing)
    return True
