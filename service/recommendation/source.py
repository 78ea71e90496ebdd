"""PyTorch source to paste: `model` is the caller's model, `nn` is torch.nn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from keyword import iskeyword
from textwrap import fill

from service.recommendation.initialization import Draw

LONG_LINE = 70
"""Characters of names that still stand on one line."""


def module(path: str) -> str:
    """An expression for a submodule: model.fc1, or model.get_submodule('body.0.conv')."""
    if not path:
        return "model"
    if all(part.isidentifier() and not iskeyword(part) for part in path.split(".")):
        return f"model.{path}"
    return f"model.get_submodule({path!r})"


def draws(new: Iterable[Draw]) -> str:
    """torch.nn.init calls; modules that get the same calls share a loop."""
    calls: dict[str, list[str]] = {}
    for draw in new:
        owner, _, leaf = draw.parameter.rpartition(".")
        calls.setdefault(owner, []).append(_call(draw, leaf))
    groups: dict[tuple[str, ...], list[str]] = {}
    for owner, statements in calls.items():
        groups.setdefault(tuple(statements), []).append(owner)
    return "\n".join(for_each(owners, *statements) for statements, owners in groups.items())


def for_each(paths: Sequence[str], *statements: str) -> str:
    """Statements with the blanks {module} and {path}: once as they are, or a loop over paths."""
    if len(paths) == 1:
        blanks = {"module": module(paths[0]), "path": repr(paths[0])}
        return "\n".join(statement.format(**blanks) for statement in statements)
    blanks = {"module": "model.get_submodule(name)", "path": "name"}
    body = "".join(f"\n    {statement.format(**blanks)}" for statement in statements)
    return f"for name in ({listed(paths)}):{body}"


def replace_modules(paths: Sequence[str], new: str) -> str:
    """Put what `new` makes in the place of each path; its {module} is what was there."""
    return for_each(paths, f"model.set_submodule({{path}}, {new})")


def listed(paths: Sequence[str]) -> str:
    """Names for a tuple, over several lines where they are many."""
    names = ", ".join(repr(path) for path in paths)
    if len(names) <= LONG_LINE:
        return names
    return f"\n{fill(names, 88, initial_indent='    ', subsequent_indent='    ')},\n"


def _call(draw: Draw, leaf: str) -> str:
    if draw.function == "forget_gate_":  # of the gates i, f, g, o the second quarter
        quarter = draw.shape[0] // 4
        rows = f"nn.init.zeros_({{module}}.{leaf}).detach()[{quarter}:{2 * quarter}]"
        return f"nn.init.constant_({rows}, {draw.args['val']!r})"
    arguments = "".join(f", {name}={value!r}" for name, value in draw.args.items())
    return f"nn.init.{draw.function}({{module}}.{leaf}{arguments})"
