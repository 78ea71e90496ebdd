"""Which classes and functions a pickle names. Nothing is built or called.

TorchScript's own reader knows only a few of them; Python's would call whatever stands there.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from io import BytesIO

from service.intake import limits
from service.intake.refusal import Refused

OPCODES = frozenset(
    {
        *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2"),
        *("LONG1", "BINFLOAT", "BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "GLOBAL", "BINPERSID"),
        *("REDUCE", "NEWOBJ", "BUILD", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    }
)
"""What torch writes (torch/csrc/jit/serialization/pickler.h; protocol 2 of Python's pickle). In it
every name stands in a GLOBAL; later protocols take names off the stack, where they can be made
up."""

TENSORS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    | {
        f"torch {kind}Storage"
        for kind in (
            "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
            "ComplexFloat", "ComplexDouble",
        )
    }
)  # fmt: skip
"""What a dense tensor is made of."""
TORCHSCRIPT = TENSORS | {
    f"torch.jit._pickle {name}"
    for name in (
        "build_intlist",
        "build_doublelist",
        "build_boollist",
        "build_tensorlist",
        "build_tensor_from_id",
        "restore_type_tag",
    )
}
"""What TorchScript's objects are made of; their classes stand in `__torch__`."""
EXPORTED = TENSORS | {
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
    "torch.storage UntypedStorage",
    "torch device",
    "torch Size",
}
"""What the tensors of an exported program are made of."""


class Budget:
    """How many opcodes may still be read, over all pickles of a file."""

    def __init__(self) -> None:
        self.left = limits.MAX_OPCODES

    def take(self) -> None:
        """One more. Raises Refused."""
        self.left -= 1
        if self.left < 0:
            raise Refused(f"its pickles have more than {limits.MAX_OPCODES:,} opcodes")


def names_in(content: bytes, budget: Budget) -> Iterator[str]:
    """ "module name" of every class or function. Raises Refused for what torch does not write."""
    try:
        for opcode, argument, _ in pickletools.genops(BytesIO(content)):
            budget.take()
            if opcode.name not in OPCODES:
                raise Refused(f"the pickle opcode {opcode.name}, which torch does not write")
            if opcode.name == "GLOBAL":
                yield str(argument)
    except (ValueError, OverflowError, IndexError) as error:
        raise Refused(f"a broken pickle ({str(error)[:80]})") from error
