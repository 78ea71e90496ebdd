"""Children without torch, good and bad, for the tests of the wall. Run in real child processes.

Each plays the part of `service.probing.child:serve`. A well-behaved one answers every ask;
`misbehave` does what the plan's seed says, so that one zygote can serve every case.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import threading
import time
from collections.abc import Callable

from service.domain.measurements import ModelFacts
from service.probe_protocol import (
    HEADER,
    Ask,
    Export,
    Exported,
    Failed,
    Open,
    Opened,
    Reply,
    Underway,
    decode_ask,
    encode,
)

MIB = 1024 * 1024


def warm_up() -> None:
    """Nothing to warm."""


def warm_up_that_raises() -> None:
    raise ValueError("no model library here")


def warm_up_that_hangs() -> None:
    time.sleep(600)


def warm_up_slowly() -> None:
    time.sleep(1)


def warm_up_that_leaves_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def warm_up_that_leaks() -> None:
    """The zygote keeps 32 MiB more with every fork."""
    hoard: list[bytearray] = []
    os.register_at_fork(after_in_parent=lambda: hoard.append(bytearray(b"x" * (32 * MIB))))


WARMED_FURTHER: list[int] = []
"""One entry for each time that this zygote warmed up further."""


def warm_up_further() -> None:
    """32 MiB come with it, and it takes longer than some sessions may."""
    WARMED_FURTHER.append(os.getpid())
    HOARD.append(bytearray(b"x" * (32 * MIB)))
    time.sleep(0.6)


HOARD: list[bytearray] = []
REHEARSED: list[int] = []
"""One entry for each rehearsal of this process."""


def rehearse() -> None:
    REHEARSED.append(1)


def serve(model_fd: int | None, channel: int, output: int) -> None:
    """Answer every ask until the channel closes; the plan's seed chooses the manner."""
    ask = receive(channel)
    while ask is not None:
        if isinstance(ask, Open):
            manner = MANNERS[ask.plan.seed]
        send(channel, manner(ask, model_fd, channel, output))
        ask = receive(channel)


def receive(channel: int) -> Ask | None:
    header = os.read(channel, HEADER.size)
    if not header:
        return None
    (length,) = HEADER.unpack(header)
    body = b""
    while len(body) < length:
        body += os.read(channel, length - len(body))
    return decode_ask(body)


def send(channel: int, reply: Reply) -> None:
    write_all(channel, encode(reply))


def write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def opened(text: str = "spec") -> Opened:
    """The one reply with a free text: tests read what the child saw from `facts.format`."""
    facts = ModelFacts(text, parameters=1, layers=1, recorded=True, torch="none", device="cpu")
    return Opened(facts, peak_memory_mb=12.5)


Manner = Callable[[Ask, int | None, int, int], Reply]


def answers(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return opened()


def tells_what_it_rehearsed(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return opened(str(len(REHEARSED)))


def tells_what_was_warm(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return opened(f"{len(WARMED_FURTHER)} {len(REHEARSED)}")


def tells_its_situation(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    """What it keeps: read before the seal can forbid it, from calls that stay allowed."""
    descriptors = [number for number in range(1024) if is_open(number)]
    situation = {
        "pid": os.getpid(),
        "model_fd": model,
        "descriptors": descriptors,
        "environment": sorted(os.environ),
        "model": os.pread(model, 100, 0).decode() if model is not None else None,
        "tasks": resource.getrlimit(resource.RLIMIT_NPROC),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "file_size": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
    }
    return opened(json.dumps(situation))


def is_open(number: int) -> bool:
    try:
        os.lseek(number, 0, os.SEEK_CUR)
    except OSError as error:
        return error.errno != 9  # EBADF
    return True


def prints(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    print("to nobody", flush=True)  # noqa: T201
    return opened("printed")


def loops(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    while True:
        pass


def sleeps(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    time.sleep(600)
    return opened()


def dribbles(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    """A byte now and then: every read returns, the reply never does."""
    os.write(channel, HEADER.pack(1000))
    while True:
        os.write(channel, b" ")
        time.sleep(0.05)


def allocates(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    hoard = []
    while True:
        hoard.append(bytearray(64 * MIB))


def tells_it_ran_out(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return Failed("probe_out_of_memory", "could not allocate \x1b[31m1 TiB\x1b[0m\n" + "!" * 9999)


def tells_an_unknown_code(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return Failed("queue_full", "please go away")


def floods(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    write_all(channel, HEADER.pack(2**32 - 1))
    while True:
        os.write(channel, b"0" * MIB)


def segfaults(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    ctypes.string_at(0)
    return opened()


def aborts(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    os.abort()


def leaves_silently(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    os._exit(0)


def raises(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    raise RuntimeError("unhandled")


def hangs_up(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    os.close(channel)
    time.sleep(600)
    return opened()


def talks_garbage(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    write_all(channel, HEADER.pack(5) + b"\xff{]\x00!")
    return opened()


def talks_deep_json(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    body = b'{"type":"opened","facts":' + b"[" * 500_000
    write_all(channel, HEADER.pack(len(body)) + body)
    return opened()


def talks_wrong_types(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    body = json.dumps({"type": "opened", "facts": {"format": 3}}).encode()
    write_all(channel, HEADER.pack(len(body)) + body)
    return opened()


def answers_out_of_turn(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return Exported(size=0)


def leaves_threads(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    for _ in range(4):
        threading.Thread(target=time.sleep, args=(600,)).start()
    return opened(str(threading.active_count()))


def forks(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    try:
        pid = os.fork()
    except OSError as error:
        return opened(f"refused: {error.errno}")
    if pid == 0:
        time.sleep(600)
    return opened(f"child {pid}")


def exports(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    if not isinstance(ask, Export):
        return opened()
    size = int(ask.changes[0]["floats"])
    header = json.dumps({"w": tensor([size], [0, 4 * size])}).encode()
    write_all(output, struct.pack("<Q", len(header)) + header)
    write_all(output, bytes(4 * size))
    return Exported(size=8 + len(header) + 4 * size)


def tensor(shape: list[int], place: list[int]) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": place}


def exports_nonsense(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    if not isinstance(ask, Export):
        return opened()
    write_all(output, b"not a safetensors file")
    return Exported(size=22)


def exports_less_than_it_says(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return Exported(size=10**9) if isinstance(ask, Export) else opened()


def tells_how_far(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    """And falls back, which nobody is told."""
    for share in (0.25, 0.1, 0.25, 1.0):
        write_all(channel, encode(Underway(share)))
    return opened()


def tells_without_end(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    while True:
        write_all(channel, encode(Underway(0.5)))


def tells_too_much(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return tells_share(channel, b"1.5")


def tells_no_number(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return tells_share(channel, b"NaN")


def tells_at_length(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return tells_share(channel, b"0.5" + b"0" * 100)


def tells_more_than_a_share(ask: Ask, model: int | None, channel: int, output: int) -> Reply:
    return tells_share(channel, b'0.5,"more":1')


def tells_share(channel: int, share: bytes) -> Reply:
    body = b'{"type":"underway","share":' + share + b"}"
    write_all(channel, HEADER.pack(len(body)) + body)
    return opened()


MANNERS: list[Manner] = [
    answers,
    tells_what_it_rehearsed,
    tells_what_was_warm,
    tells_its_situation,
    prints,
    loops,
    sleeps,
    dribbles,
    allocates,
    tells_it_ran_out,
    tells_an_unknown_code,
    floods,
    segfaults,
    aborts,
    leaves_silently,
    raises,
    hangs_up,
    talks_garbage,
    talks_deep_json,
    talks_wrong_types,
    answers_out_of_turn,
    leaves_threads,
    forks,
    exports,
    exports_nonsense,
    exports_less_than_it_says,
    tells_how_far,
    tells_without_end,
    tells_too_much,
    tells_no_number,
    tells_at_length,
    tells_more_than_a_share,
]
