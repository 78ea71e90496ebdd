"""The filter's program, run by a small machine of our own: also for the processor not at hand."""

from __future__ import annotations

import struct

import pytest

from service.sandbox.seccomp import AARCH64, FREE, X86_64, Architecture, program

PID = 4321
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
THREAD_FLAGS = 0x3D0F00
"""What pthread_create asks for."""

both = pytest.mark.parametrize("architecture", [X86_64, AARCH64], ids=["x86_64", "aarch64"])


def verdict(
    architecture: Architecture, number: int, *arguments: int, audit: int | None = None
) -> int:
    """Run the program on one call, as linux/filter.h says."""
    arch = architecture.audit if audit is None else audit
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    instructions = program(architecture, PID)
    accumulator = position = 0
    while True:
        code, jump_true, jump_false, operand = instructions[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            return operand
        else:
            holds = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }[code]
            position += jump_true if holds else jump_false


@both
def test_free_calls_are_allowed_and_unknown_ones_refused(architecture: Architecture) -> None:
    listed = set(architecture.numbers.values())
    for name in FREE:
        if name in architecture.numbers:
            assert verdict(architecture, architecture.numbers[name]) == ALLOW, name
    for number in set(range(600)) - listed:
        assert verdict(architecture, number) == EPERM, number


@both
def test_every_named_call_has_a_rule(architecture: Architecture) -> None:
    special = {"clone", "clone3", "tgkill", "fcntl", "prctl", "prlimit64"}
    assert set(architecture.numbers) <= set(FREE) | special


@both
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (THREAD_FLAGS,), ALLOW),
        ("clone", (17,), EPERM),
        ("clone", (THREAD_FLAGS | 0x10000000,), EPERM),
        ("clone", (THREAD_FLAGS | 0x00020000,), EPERM),
        ("clone3", (THREAD_FLAGS,), ENOSYS),
        ("tgkill", (PID, PID, 6), ALLOW),
        ("tgkill", (1, 1, 6), EPERM),
        ("fcntl", (4, 1), ALLOW),
        ("fcntl", (4, 1030), ALLOW),
        ("fcntl", (4, 8), EPERM),
        ("prctl", (15,), ALLOW),
        ("prctl", (4,), EPERM),
        ("prlimit64", (0, 9, 0, 1), ALLOW),
        ("prlimit64", (0, 9, 1, 0), EPERM),
        ("prlimit64", (0, 9, 1 << 32, 0), EPERM),
        ("prlimit64", (7, 9, 0, 1), EPERM),
    ],
)
def test_calls_that_depend_on_their_arguments(
    architecture: Architecture, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert verdict(architecture, architecture.numbers[name], *arguments) == expected


@both
def test_another_convention_is_deadly(architecture: Architecture) -> None:
    assert verdict(architecture, 0, audit=0x40000003) == KILL
    assert verdict(architecture, 0x40000000) == KILL
