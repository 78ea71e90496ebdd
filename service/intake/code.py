"""Which operators TorchScript code names, read as text: nothing is compiled.

The text of `code/*.py` is Python's grammar with a world of its own: `torch.add` is the operator
aten::add, `ops.prim.device` is prim::device, `x.add(…)` is aten::add again where x is no object of
the file, everything in `__torch__` is code of the file itself. So every name behind a dot is
looked at. What is not on the list is refused; what only looks like an operator (an attribute) is
not, unless it has the name of one that must not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from service.intake.operators import ATEN, NEVER, PRIM, PROFILER
from service.intake.refusal import Refused

_OPERATORS = {"aten": ATEN, "prim": PRIM, "profiler": PROFILER}
"""By namespace; others are quantized, or belong to libraries that no child has."""
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+ | \#[^\n]*)
  | (?P<text>"{3}(?:[^"\\]|\\.|"(?!""))*"{3} | '{3}(?:[^'\\]|\\.|'(?!''))*'{3}
           | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
  | (?P<name>[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)
  | (?P<member>\.\s*[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?j?)
  | (?P<other>[^"'])
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_DEFINED = re.compile(r"\bdef\s+(\w+)", re.ASCII)
_CALLED = re.compile(r"\s*\(", re.ASCII)
_OCTAL = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{2})")


_ASCII = "".join(map(chr, range(128)))


@dataclass(frozen=True, slots=True)
class CodeFile:
    """One member of `code/`."""

    name: str
    """As answers show it."""
    text: str
    """What stands in it."""


def check_code(files: Iterable[CodeFile]) -> None:
    """Raises Refused, with file and line, at the first operator that is not on the list."""
    files = list(files)
    own = {name for file in files for name in _DEFINED.findall(file.text)}
    for file in files:
        for place, problem in _problems(file.text, own):
            line = file.text.count("\n", 0, place) + 1
            raise Refused(f"{file.name}, line {line}: {problem}")


def _problems(text: str, own: set[str]) -> Iterator[tuple[int, str]]:
    """Where, and what is wrong there."""
    if not text.isascii():
        yield len(text) - len(text.lstrip(_ASCII)), "a character that TorchScript does not write"
    place, before = 0, ""
    asks: list[bool] = []  # of every open bracket: is it getattr's?
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            yield place, "a text that does not end"
            return
        place = token.end()
        called = _CALLED.match(text, place) is not None
        problem = None
        if token.lastgroup == "name":
            problem = _name(_parts(token[0]), own, called=called)
        elif token.lastgroup == "member":
            problem = _members(_parts(token[0])[1:], own, called=called)
        elif token.lastgroup == "text" and asks and asks[-1]:
            problem = _text(token[0])
        elif token[0] == "(":
            asks.append(before == "getattr")
        elif token[0] == ")":
            del asks[-1:]
        if problem is not None:
            yield token.start(), problem
        if token.lastgroup != "space":
            before = token[0]


def _parts(chain: str) -> list[str]:
    return [part.strip() for part in chain.split(".")]


def _name(parts: list[str], own: set[str], *, called: bool) -> str | None:
    """A name, with what follows it behind dots."""
    root, *rest = parts
    if root == "__torch__":
        return _library_class(rest)
    if root in ("torch", "ops") and not rest:
        return f"{root} is used as a value"
    if root == "torch":
        return _operator("aten", rest[0]) or _members(rest[1:], own, called=called)
    if root == "ops":
        if len(rest) == 1:
            return "ops is used as a value"
        return _operator(rest[0], rest[1]) or _members(rest[2:], own, called=called)
    if root == "getattr" and not called:
        return "getattr is used as a value"
    return _members(rest, own, called=called)


def _library_class(path: list[str]) -> str | None:
    """__torch__.torch.classes is the one part of `__torch__` that is not the file's own."""
    if path[:2] == ["torch", "classes"] and path[2:3] != ["profiler"]:
        return f"{'.'.join(path)} is a class of a library"
    return None


def _operator(namespace: str, name: str) -> str | None:
    if namespace not in _OPERATORS:
        return f"the operator {namespace}::{name} is none of PyTorch's own that pass gradients"
    if name not in _OPERATORS[namespace]:
        return f"the operator {namespace}::{name} is not one that a model needs"
    return None


def _members(names: list[str], own: set[str], *, called: bool) -> str | None:
    """Attributes, and when called a method at the end."""
    for name in names:
        if name in NEVER:
            return f"the operator aten::{name} is not one that a model needs"
    if called and names and names[-1] not in own and names[-1] not in ATEN:
        return f"{names[-1]} is neither a method of the file nor an operator that a model needs"
    return None


def _text(literal: str) -> str | None:
    """getattr(x, "name") is x.name."""
    name = _OCTAL.sub(lambda code: _letter(code[1]), literal.strip("\"'"))
    return f"the text {name!r} names an operator that no model needs" if name in NEVER else None


def _letter(code: str) -> str:
    return chr(int(code[1:], 16) if code.startswith("x") else int(code, 8))
