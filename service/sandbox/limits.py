"""The policy of the wall, on one page."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024

_MALLOC = {
    "hugetlb": 1,
    "mmap_threshold": 32 * MIB,
    "trim_threshold": 64 * MIB,
    "top_pad": 16 * MIB,
}
"""GNU libc's tunables: memory is asked for in huge pages and in pieces of 16 MiB, and given back
late (without the middle two it learns as much, after a few hundred tensors). A small probe touches
its first 40 MB otherwise in 10,000 faults, an eighth of its processor time; a pass over matrices of
4096 × 4096 takes a fifth less. Other libraries, and systems without huge pages, ignore them."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in _MALLOC.items()),
}
"""The whole environment of a zygote and its children: nothing secret can be in it.

One thread, because threads do not survive a fork and thread pools believe that they did: a zygote
warmed with two left children that hang. A child raises its own threads after the fork. PASSIVE,
because two threads that wait busily on shared cores made small steps forty times slower.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use. Every limit is on its own: the first one reached ends the child."""

    wall_seconds: float = 120.0
    """Seconds from the fork to the last reply, all asks together; then SIGKILL, ProbeTimeout."""
    cpu_seconds: int = 240
    """RLIMIT_CPU, seconds of all threads together; stops what the wall clock cannot see, a child
    that works while nobody asks. About wall_seconds × threads."""
    memory_mb: int = 4096
    """MiB of address space above what the zygote gave the child (RLIMIT_AS = size at the fork +
    this). Address space, because resident memory cannot be bounded without privileges."""
    reply_bytes: int = 16 * MIB
    """Bytes of one reply. Decoding takes up to about 16 times as much: a two-byte number becomes
    a 32-byte one."""
    ask_bytes: int = 16 * MIB
    """Bytes of one message to the child; the submitted spec is the largest thing in it."""
    output_bytes: int = 1024 * MIB
    """RLIMIT_FSIZE: bytes of the output file, the only file a child can write (float32 weights of
    a model with 268 million parameters)."""
    open_files: int = 16
    """RLIMIT_NOFILE: a child keeps three descriptors and may duplicate them, nothing else."""
    tasks: int = 16_384
    """RLIMIT_NPROC: processes and threads of this user at which a child gets no more threads. They
    are counted over the whole machine, so it stops a flood of threads, which cost the kernel memory
    that no other limit counts; it does not bind root."""
    detail_chars: int = 500
    """Characters kept of what a child says went wrong."""
    start_seconds: int = 60
    """Seconds a zygote may take to import and warm up: 1 … 3 on an idle machine; on a loaded one
    far more, and giving up too early would fail jobs for no fault of theirs."""
    answer_seconds: float = 10.0
    """Seconds a zygote may take to fork or to bury a child (milliseconds each, but freeing
    gigabytes takes its time); then it is killed and replaced."""
    jobs_per_zygote: int = 500
    """Children before a zygote is replaced: all children of one share its memory layout, and what
    one learns about it (ASLR) should not serve others for long."""
    zygote_growth_mb: int = 128
    """MiB of resident memory that a zygote may have gained since it was warm; then it is replaced.
    It does nothing but fork, so growth is a leak, and every child begins with it."""
