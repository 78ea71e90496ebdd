"""The graph of an exported program, read as JSON: which operators it names, how sizes are written.

torch looks targets up by name and evaluates the expressions of sizes: what neither needs is
refused.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.domain.exported_program import Program, UnreadableProgram, program_of
from service.intake import limits
from service.intake.archive import open_zip, read_member, shown
from service.intake.operators import ATEN, EXPORTED_ATEN
from service.intake.refusal import Refused

OLD_PROGRAM = "serialized_exported_program.json"
"""What torch.export.save wrote up to version 2.7, at the top of the archive."""
_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)(?:\.\w+)?", re.ASCII)
_FUNCTIONS = frozenset(
    {
        f"_operator.{name}"
        for name in (
            "add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "pos", "and_", "or_",
            "not_", "eq", "ne", "lt", "le", "gt", "ge", "getitem",
        )
    }
    | {f"math.{name}" for name in ("trunc", "ceil", "floor", "sqrt")}
    | {f"torch.{name}" for name in ("sym_int", "sym_float", "sym_ite", "sym_max", "sym_min",
                                     "sym_not", "sym_sqrt", "_sym_sqrt")}
    | {
        "torch.ops.higher_order.wrap_with_set_grad_enabled",
        "torch.ops.higher_order.wrap_with_autocast",
        "torch.ops.higher_order.cond",
    }
)  # fmt: skip
"""Arithmetic on sizes, and what makes a part of a graph of its own."""
_SIZE = re.compile(
    r"(?:Symbol\('[a-z]\w*+'(?:, \w++=(?:True|False))*+\)|[A-Za-z]\w*+|\d{1,19}+(?!\w)"
    r"|[\s()+*/,<>=-])*+",
    re.ASCII,
)
"""An expression over sizes, plain or as sympy's srepr: names are called, none is looked into."""


def program_in(path: Path) -> Program:
    """What an exported program says of itself. Raises UnreadableProgram, FileNotFoundError."""
    try:
        with open_zip(path) as archive:
            return program_of(_read(archive))
    except Refused as refused:
        raise UnreadableProgram(str(refused)) from refused


def check_program(archive: zipfile.ZipFile) -> None:
    """Raises Refused."""
    said = _read(archive)
    for node in _walk([said, *_lists_of_tensors(archive)]):
        target, expression = node.get("target"), node.get("expr_str")
        if isinstance(target, str) and "inputs" in node:
            _check_target(target)
        if isinstance(expression, str) and not (
            len(expression) <= limits.MAX_EXPRESSION and _SIZE.fullmatch(expression)
        ):
            raise Refused(f"the size {shown(expression)} is no expression over sizes")
        if node.get("use_pickle") is True:
            raise Refused(f"{shown(str(node.get('path_name')))} is a pickled object")
    try:
        program_of(said)
    except UnreadableProgram as error:
        raise Refused(f"the program cannot be probed: {error}") from error


def _check_target(target: str) -> None:
    operator = _OPERATOR.fullmatch(target)
    known = target in _FUNCTIONS if operator is None else operator[1] in ATEN | EXPORTED_ATEN
    if not known:
        raise Refused(f"its graph calls {shown(target)}")


def _read(archive: zipfile.ZipFile) -> Mapping[str, Any]:
    found = [member for member in archive.infolist() if _is_program(member.filename)]
    if len(found) != 1:
        raise Refused(f"it holds {len(found)} programs, not one")
    said = _json(archive, found[0])
    if not isinstance(said, dict):
        raise Refused("its program is no object")
    return said


def _lists_of_tensors(archive: zipfile.ZipFile) -> Iterator[Any]:
    for member in archive.infolist():
        if member.filename.endswith(("_weights_config.json", "_constants_config.json")):
            yield _json(archive, member)


def _is_program(name: str) -> bool:
    inside = name.partition("/")[2]
    return name == OLD_PROGRAM or (inside.startswith("models/") and inside.endswith(".json"))


def _json(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    try:
        return json.loads(read_member(archive, member, limits.MAX_PROGRAM))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{shown(member.filename)} is not JSON") from error


def _walk(said: Any) -> Iterator[Mapping[str, Any]]:
    """Every object, however deep."""
    waiting = [said]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
