"""Landlock: no file can be opened, made, changed or run, no TCP port bound or reached.

A ruleset that handles every right and allows none, or those of a GPU's files alone (https://docs.kernel.org/userspace-api/
landlock.html). It needs no privilege. Descriptors that are open already keep their rights.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence

from service.sandbox import linux

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_CREATE_RULESET_VERSION = 1

_FILE_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many of the access bits 0, 1, 2 … each version knows: 1 execute … make_sym, 2 refer,
3 truncate, 5 ioctl on devices. Later versions know as many as the last one here."""
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 15
_IOCTL_ABI = 5
_TCP_ABI = 4
_TCP_BIND_AND_CONNECT = 0b11
_SCOPE_ABI = 6
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


def abi() -> int:
    """The kernel's Landlock version, from 1. Raises OSError where there is none."""
    return linux.syscall(
        _CREATE_RULESET,
        ctypes.c_void_p(None),
        ctypes.c_size_t(0),
        ctypes.c_uint32(_CREATE_RULESET_VERSION),
    )


def deny_everything(readable: Sequence[str] = (), devices: Sequence[str] = ()) -> None:
    """Restrict this thread, and every thread and process it will make, for good.

    `readable`: files and folders that may still be read (and loaded as libraries); `devices`:
    device files that may be read, written and controlled. Needs PR_SET_NO_NEW_PRIVS. Raises
    OSError.
    """
    version = abi()
    attributes = _ruleset_attributes(version)
    ruleset = linux.syscall(
        _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE | _EXECUTE, folders=_READ_DIR)
        for path in devices:
            control = _IOCTL if version >= _IOCTL_ABI else 0
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE | control)
        linux.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int, folders: int = 0) -> None:
    """struct landlock_path_beneath_attr, packed."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights |= folders
        linux.syscall(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            struct.pack("=Qi", rights, descriptor),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(descriptor)


def _ruleset_attributes(version: int) -> bytes:
    """struct landlock_ruleset_attr as long as this version knows it: everything is handled."""
    known = min(version, max(_FILE_RIGHTS_BY_ABI))
    handled = [(1 << _FILE_RIGHTS_BY_ABI[known]) - 1]
    if version >= _TCP_ABI:
        handled.append(_TCP_BIND_AND_CONNECT)
    if version >= _SCOPE_ABI:
        handled.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    return struct.pack(f"={len(handled)}Q", *handled)
