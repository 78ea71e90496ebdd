"""What a TorchScript file may take, read from it without running anything of it.

A traced file carries the inputs it was traced with; for a scripted one the first layer's weight
tells most. Both stand in pickles, which are programs: they are read here by an unpickler that
knows no class and no function, only stand-ins that keep what they were called with.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from service.domain.probe_plan import InputPlan
from service.intake.archive import open_zip

MAX_PICKLE = 1 << 20
"""Bytes of a pickle that are read; thousands of layers fit, and a second reads them."""
LARGEST_SIZE = 2**31 - 1
"""Of one dimension."""
MAX_CLASSES = 20_000
"""Names of classes in one pickle; a traced file has one per module."""

_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "BoolStorage": "bool",
}

_FIRST_LAYERS: dict[str, tuple[str, Callable[[tuple[int, ...]], InputPlan]]] = {
    "Linear": ("weight", lambda size: InputPlan((size[1],))),
    "Conv1d": ("weight", lambda size: InputPlan((size[1], 128))),
    "Conv2d": ("weight", lambda size: InputPlan((size[1], 224, 224))),
    "Conv3d": ("weight", lambda size: InputPlan((size[1], 16, 112, 112))),
    "Embedding": ("weight", lambda size: InputPlan((128,), "int64", high=size[0])),
    "RNN": ("weight_ih_l0", lambda size: InputPlan((32, size[1]))),
    "LSTM": ("weight_ih_l0", lambda size: InputPlan((32, size[1]))),
    "GRU": ("weight_ih_l0", lambda size: InputPlan((32, size[1]))),
    "MultiheadAttention": ("in_proj_weight", lambda size: InputPlan((32, size[1]))),
}
"""By class name: the parameter that tells the input's features, and an input of usual length."""


def guess_inputs(path: Path) -> tuple[InputPlan, ...]:
    """One plan per input, to be checked by a person; empty when nothing can be said."""
    try:
        with open_zip(path) as archive:
            return _guess(archive)
    except Exception:
        # Whatever such a file can hold, it cannot do more than spoil the guess.
        return ()


def _guess(archive: zipfile.ZipFile) -> tuple[InputPlan, ...]:
    members = {name.partition("/")[2]: name for name in archive.namelist()}
    first = next(_first_layers(_read(archive, members["data.pkl"])), None)
    if "traced_inputs.pkl" in members:
        traced = _read(archive, members["traced_inputs.pkl"])
        high = first.high if first is not None else None
        return tuple(_as_traced(tensor, high) for tensor in traced.args[0]["forward"].args[0])
    return () if first is None else (first,)


def _read(archive: zipfile.ZipFile, member: str) -> Any:
    with archive.open(member) as file:
        return _Unpickler(BytesIO(file.read(MAX_PICKLE))).load()


class _Thing:
    """Stands in for every object, whatever its class was."""

    name = ""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


_WRITTEN = (
    b"\x80.(NIJKMG\x88\x89\x8aXTUcQ"  # protocol, stop, mark, plain values, classes, references
    b"R\x81b)t\x85\x86\x87]aeh}jqr"  # objects, tuples, lists, dicts, the memo
)
"""The opcodes that TorchScript writes, but for those that fill a dict (torch/csrc/jit/
serialization/pickler.h). Others make sets, whose hash of a deep tuple ends the process, or byte
arrays as large as the pickle says."""


class _Unpickler(pickle._Unpickler):
    """The one in Python: that in C fills memory when a pickle asks for a high memo index."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: pickle._Unpickler.dispatch[code] for code in _WRITTEN
    }

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file)
        self._classes: dict[str, type[_Thing]] = {}

    def find_class(self, module: str, name: str) -> type[_Thing]:  # noqa: ARG002
        if name not in self._classes:
            if len(self._classes) >= MAX_CLASSES:
                raise pickle.UnpicklingError("too many classes")
            self._classes[name] = type("_Thing", (_Thing,), {"name": name})
        return self._classes[name]

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put_into_dict([(key, value)])

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._put_into_dict(list(zip(items[::2], items[1::2], strict=True)))

    def _put_into_dict(self, items: list[tuple[Any, Any]]) -> None:
        # The hash of a tuple in a tuple in a tuple … leaves no room on the stack.
        if any(isinstance(key, tuple) for key, _ in items):
            raise pickle.UnpicklingError("a tuple is no key of a dict")
        self.stack[-1].update(items)

    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _size(tensor: _Thing) -> tuple[int, ...]:
    """Sizes of a tensor: _rebuild_tensor_v2(storage, offset, size, stride, …)."""
    size = tensor.args[2]
    if not all(isinstance(one, int) and 0 < one <= LARGEST_SIZE for one in size):
        raise ValueError("not the sizes of a tensor")
    return tuple(size)


def _as_traced(tensor: _Thing, high: int | None) -> InputPlan:
    dtype = _DTYPES[tensor.args[0][1].name]
    _, *shape = _size(tensor)
    if dtype.startswith("int"):
        return InputPlan(tuple(shape), dtype, high=high or 2)
    return InputPlan(tuple(shape), dtype)


def _first_layers(root: _Thing) -> Iterator[InputPlan]:
    """What each layer whose class is known would take, first layer first."""
    waiting, seen = [root], {id(root)}
    while waiting:
        module = waiting.pop()
        parameter, plan = _FIRST_LAYERS.get(module.name, ("", None))
        if plan is not None and parameter in module.state:
            yield plan(_size(module.state[parameter]))
        inner = [one for one in module.state.values() if isinstance(one, _Thing)]
        waiting += [one for one in reversed(inner) if id(one) not in seen]
        seen |= {id(one) for one in inner}
