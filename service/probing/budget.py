"""How much probing fits into the time and memory there is, after one measured micro-batch.

Cuts are made in the order that costs the answer least: batches to two, seeds to two, batch size
down to 8, one batch, one seed, batch size to 2; and the steps of the short training, or all of it
where too few would be left to tell anything. What was cut is said in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from service.domain.errors import ProbeOutOfMemory
from service.domain.memory import AUTO_BATCH, COPIES, HELD, MIB
from service.domain.probe_plan import ProbePlan

PROBE_SHARE = 0.4
"""Share of budget_seconds that the statistics may take; the rest is for the short training."""
WATCHING = 1.5
"""Measured probe over bare forward and backward pass, rounded up."""
TRIAL_RUNS = 3
"""Runs of a short training that does not learn, each trial_steps long (it usually gives up
earlier)."""
FEWEST_STEPS = 40
"""Steps under which a run tells nothing: a model at chance is given up after so many."""
SIZES = (2, 8, 32)
"""Samples of the measured passes: two at first, for batch statistics; more only where fewer would
cut something, since a deep, narrow model takes its time whatever the batch size, and wide layers
read all their weights for two samples as for thirty."""
RUNS = 3
"""Measured passes of one size, at most."""
PILOT_SHARE = 0.1
"""Share of budget_seconds that measured passes may take after the first one."""
COLD = 0.5
"""What a second pass of the first size is hoped to take of the first, cold one."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What small forward and backward passes cost."""

    fixed_seconds: float
    """Of a pass, whatever its size."""
    sample_seconds: float
    """Of a pass, per sample."""
    sample_bytes: float
    """All operations' outputs, per sample."""
    parameter_bytes: int

    def and_beside(self, other: MicroBatch) -> MicroBatch:
        """What passes cost that are taken twice, one after the other, each by its own model."""
        return MicroBatch(
            self.fixed_seconds + other.fixed_seconds,
            self.sample_seconds + other.sample_seconds,
            max(self.sample_bytes, other.sample_bytes),
            self.parameter_bytes + other.parameter_bytes,
        )

    def pass_seconds(self, samples: int) -> float:
        """Expected time of one forward and backward pass."""
        return self.fixed_seconds + self.sample_seconds * samples


@dataclass(frozen=True, slots=True)
class Fitted:
    """The plan as it will run."""

    plan: ProbePlan
    batch_size: int
    notes: tuple[str, ...]
    largest: int | None = None
    """Samples that are estimated to fit the memory, ≥ 1; None without a bound."""


def affords(plan: ProbePlan, fixed_seconds: float, sample_seconds: float) -> bool:
    """True when nothing of the plan would be cut for want of time at such a cost."""
    micro = MicroBatch(fixed_seconds, sample_seconds, 0.0, 0)
    size = _Size(plan.batches, plan.seeds, plan.batch_size or AUTO_BATCH)
    steps = _trial_steps(plan, micro, size.batch_size)
    return steps == plan.trial_steps and size.fits(micro, plan)


def fit(plan: ProbePlan, micro: MicroBatch, memory_mb: int | None) -> Fitted:
    """Cut batches, seeds and (when auto) samples to what budget and memory allow.

    Raises ProbeOutOfMemory, with the estimate, when not even the smallest batch fits.
    """
    largest = _largest_batch(plan, micro, memory_mb)
    wanted = plan.batch_size or min(AUTO_BATCH, largest)
    notes = []
    if plan.batch_size is None and wanted < AUTO_BATCH:
        notes.append(f"memory: batch_size {AUTO_BATCH} → {wanted} fits {memory_mb} MiB")
    size = _Size(plan.batches, plan.seeds, wanted)
    for smaller in _cuts(size, may_shrink=plan.batch_size is None):
        if size.fits(micro, plan):
            break
        size = smaller
    steps = _trial_steps(plan, micro, size.batch_size)
    cut = [
        f"{name} {before} → {after}"
        for name, before, after in (
            ("batches", plan.batches, size.batches),
            ("seeds", plan.seeds, size.seeds),
            ("batch_size", wanted, size.batch_size),
            ("trial_steps", plan.trial_steps, steps),
        )
        if before != after
    ]
    if cut:
        notes.append(
            f"budget: {', '.join(cut)}; a pass of {wanted} samples takes about "
            f"{micro.pass_seconds(wanted):.2g} s and budget_seconds is {plan.budget_seconds:g}"
        )
    fitted = replace(plan, batches=size.batches, seeds=size.seeds, trial_steps=steps)
    fits = None if memory_mb is None else fitting(micro, memory_mb)
    return Fitted(fitted, size.batch_size, tuple(notes), fits)


@dataclass(frozen=True, slots=True)
class _Size:
    batches: int
    seeds: int
    batch_size: int

    def fits(self, micro: MicroBatch, plan: ProbePlan) -> bool:
        passes = self.batches * self.seeds * WATCHING
        return passes * micro.pass_seconds(self.batch_size) <= plan.budget_seconds * PROBE_SHARE


def _trial_steps(plan: ProbePlan, micro: MicroBatch, batch_size: int) -> int:
    seconds = plan.budget_seconds * (1 - PROBE_SHARE)
    affordable = int(seconds / (TRIAL_RUNS * max(micro.pass_seconds(batch_size), 1e-9)))
    if plan.trial_steps <= affordable:
        return plan.trial_steps
    return affordable if affordable >= FEWEST_STEPS else 0


def _cuts(size: _Size, *, may_shrink: bool) -> Iterator[_Size]:
    """Ever smaller probes, in the order that costs the answer least."""

    def batch_sizes(down_to: int) -> Iterator[int]:
        while may_shrink and size.batch_size > down_to:
            yield max(down_to, size.batch_size // 2)

    size = replace(size, batches=min(size.batches, 2))
    yield size
    size = replace(size, seeds=min(size.seeds, 2))
    yield size
    for batch_size in batch_sizes(8):
        size = replace(size, batch_size=batch_size)
        yield size
    size = replace(size, batches=1)
    yield size
    size = replace(size, seeds=1)
    yield size
    for batch_size in batch_sizes(2):
        size = replace(size, batch_size=batch_size)
        yield size


def _largest_batch(plan: ProbePlan, micro: MicroBatch, memory_mb: int | None) -> int:
    """The largest power of two that fits the memory, at most AUTO_BATCH."""
    if memory_mb is None:
        return AUTO_BATCH
    holds = fitting(micro, memory_mb)
    smallest = plan.batch_size or 1
    if holds < smallest:
        needed = (COPIES * micro.parameter_bytes + smallest * _held(micro)) / MIB
        alone = COPIES * micro.parameter_bytes
        if holds:
            smaller = f"batch_size {holds} would fit"
        elif alone >= memory_mb * MIB:
            smaller = (
                f"the parameters alone, with gradients and what training keeps of each, take "
                f"{alone / MIB:,.0f}: a smaller model needs less"
            )
        else:
            smaller = "shorter inputs or a smaller model need less"
        raise ProbeOutOfMemory(
            f"a probe of batch_size {smallest} needs about {needed:,.0f} MiB and "
            f"{memory_mb:,} MiB are allowed; {smaller}"
        )
    return min(AUTO_BATCH, 1 << (holds.bit_length() - 1))


def fitting(micro: MicroBatch, memory_mb: int) -> int:
    """Samples of one pass that the memory holds; 0 when not even one."""
    free = memory_mb * MIB - COPIES * micro.parameter_bytes
    return max(int(free / _held(micro)), 0)


def _held(micro: MicroBatch) -> float:
    """Bytes per sample at the height of a pass, ≥ 1."""
    return max(HELD * micro.sample_bytes, 1.0)
