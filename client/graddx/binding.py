"""From an operation to a client's method that looks as if it had been written as one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

M = TypeVar("M", bound=Callable[..., Any])


def as_method(method: M, operation: Callable[..., Any], gives: str) -> M:
    """`method` with name and docs of the operation, and its signature as people are to see it:
    `self` for the server, and what it `gives`, where "{}" stands for what is between the brackets
    of `Steps[…]` or `Pages[…]`."""
    update_wrapper(method, operation)
    signature = inspect.signature(operation)
    _, *rest = signature.parameters.values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    result = re.sub(r"^\w+(?:\[(.*)\])?$", r"\1", str(signature.return_annotation))
    shown = signature.replace(parameters=[own, *rest], return_annotation=gives.format(result))
    vars(method)["__signature__"] = shown
    return method
