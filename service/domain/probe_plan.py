"""How a model is to be probed."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class InputPlan:
    """One input of the model, per sample."""

    shape: tuple[int, ...]
    """Without the batch dimension."""
    dtype: str = "float32"
    """A torch dtype's name: floating, int64, int32 or bool."""
    distribution: str = "normal"
    """normal (0, 1), uniform (0, 1), zeros or ones; ignored for integers and bool."""
    high: int | None = None
    """Integers are drawn from 0 … high-1; required for integer dtypes."""


@dataclass(frozen=True, slots=True)
class OptimizerPlan:
    """The optimizer the verdict is for, in torch.optim's words."""

    name: str
    """sgd, adam or adamw."""
    lr: float
    """Learning rate, > 0."""
    momentum: float = 0.0
    """SGD's momentum, 0 … 1."""
    weight_decay: float = 0.0
    """≥ 0."""
    clip_norm: float | None = None
    """max_norm of torch.nn.utils.clip_grad_norm_, > 0; None: no clipping."""


@dataclass(frozen=True, slots=True)
class Look:
    """How much of a plan's probe is measured."""

    seeds: int
    """Of its initializations so many, the first ones, ≥ 1."""
    batches: int
    """Of each one's batches so many, the first ones, ≥ 1."""

    @property
    def passes(self) -> int:
        """Forward and backward passes."""
        return self.seeds * self.batches


GLANCE = Look(seeds=1, batches=2)
"""The least that is worth a look: two batches are the fewest between which a gradient can be
compared."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """Everything the probing room needs to know besides the model."""

    inputs: tuple[InputPlan, ...] = ()
    """One per model input; empty: taken from the spec."""
    batch_size: int | None = None
    """Samples per probe batch, ≥ 1; None: auto (64, or what fits)."""
    batches: int = 4
    """Probe batches per seed, ≥ 1."""
    seeds: int = 3
    """Fresh initializations (spec) or redrawn batches only (artifact), ≥ 1."""
    loss: str = "auto"
    """auto or a loss name of `service.probing.losses`."""
    precision: str = "float32"
    """float32, float64, bfloat16, float16 (both under autocast), pure_bfloat16 or pure_float16."""
    optimizer: OptimizerPlan | None = None
    """None: the verdict asks both SGD and Adam."""
    trial_steps: int = 100
    """Length of the short training; 0 turns it off."""
    mode: str = "train"
    """train, eval or as_saved."""
    data: str | None = None
    """Artifact id of a real batch (safetensors or npz with x or x0, x1, …, optional y); None:
    inputs are drawn."""
    budget_seconds: float = 60.0
    """Wall-clock time the whole analysis should take, > 0."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: int = 0
    """Root of all randomness."""

    def within(self, look: Look | None) -> ProbePlan:
        """No more of it than the look asks for; None: all."""
        if look is None:
            return self
        seeds, batches = min(self.seeds, look.seeds), min(self.batches, look.batches)
        return replace(self, seeds=seeds, batches=batches)
