"""The pickles of an uploaded file are read by the API itself: none may end it or fill its memory.

Each is read in a process of its own, with little memory.
"""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

MEMORY = 1 << 29
GUESS = (
    "import sys; from pathlib import Path; from service.storage.input_guess import guess_inputs; "
    "print(guess_inputs(Path(sys.argv[1])))"
)
DEEP_TUPLE = b")" + pickle.TUPLE1 * 900_000
PICKLES = {
    "a deep tuple as the key of a dict": b"}" + DEEP_TUPLE + b"K\x01s.",
    "deep tuples as keys of a dict": b"}(" + DEEP_TUPLE + b"K\x01u.",
    "a deep tuple in a set": pickle.EMPTY_SET + b"(" + DEEP_TUPLE + pickle.ADDITEMS + b".",
    "a deep tuple in a frozen set": b"(" + DEEP_TUPLE + pickle.FROZENSET + b".",
    "a byte array of a tebibyte": pickle.BYTEARRAY8 + (1 << 40).to_bytes(8, "little") + b".",
    "a byte array of a gibibyte": pickle.BYTEARRAY8 + (1 << 30).to_bytes(8, "little") + b".",
    "a high index of the memo": b"]" + pickle.LONG_BINPUT + b"\xff\xff\xff\xff.",
    "many classes": b"".join(b"c\n%x\n" % number for number in range(150_000)) + b".",
    "a deep tuple": DEEP_TUPLE + b".",
    "a deep list": b"]" * 500_000 + b"a" * 499_999 + b".",
    "a call of eval": b"cbuiltins\neval\n(X\x0b\x00\x00\x00print('x!')tR.",
}


def little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_spoils_only_the_guess(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + PICKLES[name])
    done = subprocess.run(
        [sys.executable, "-c", GUESS, path],
        preexec_fn=little_memory,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout) == (0, "()\n"), done.stderr[-500:]
