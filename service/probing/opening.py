"""From what was sent to a model that can be measured: a spec built, a file loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING

import torch
from torch import Tensor

from service.domain.architecture import Architecture
from service.domain.errors import InternalError, ModelRaised
from service.domain.memory import AUTO_BATCH, comes_near
from service.domain.model_source import EXPORTED_PROGRAM
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing import devices, foresight
from service.probing.data import Data, read, read_weights
from service.probing.devices import CPU
from service.probing.loaders import spec, torchscript
from service.probing.loaders.loaded import LoadedModel, loaded
from service.probing.precision import PRECISIONS
from service.probing.threads import multiplications
from service.probing.trace import first_lines

if TYPE_CHECKING:
    from service.probing.loaders.exported_program import ExportedProgram

SMALL = 2**26
"""Multiplications of a pass over a batch that take some milliseconds."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A model, ready to be recorded."""

    plan: ProbePlan
    """With the inputs that the model or the data bring."""
    model: LoadedModel
    data: Data | None
    """The caller's rows."""
    wide: LoadedModel | None
    """The same with parameters of its own in float32, where the model's have 16 bits."""
    small: bool = False
    """Whether a whole batch costs so little that a few samples need not be tried before. Of specs
    alone: any batch takes the same path through them."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came, one of architecture and file."""

    architecture: Architecture | None
    file: IO[bytes] | None
    model_format: str = "torchscript"
    """Of the file: torchscript or exported_program."""
    weights: bytes | None = None
    """A safetensors file, in place of a spec's initialization."""
    data: bytes | None = None
    """Rows as safetensors or npz."""


def opened(
    plan: ProbePlan, sent: Sent, device: torch.device = CPU, memory_mb: int | None = None
) -> Opened:
    """Build a spec's model or load a file's, unless its size alone tells that no probe of it would
    fit so many MiB (None: no bound). Raises ProbeFailure."""
    precision = PRECISIONS[plan.precision]
    program = None
    if sent.architecture is not None:
        plan = _with_inputs(plan, sent.architecture)
    if memory_mb is not None:
        _check_size(plan, sent, memory_mb)
    if sent.architecture is None and sent.file is not None and _is_program(sent):
        program = _program(sent.file)
        plan = program.fitted(plan)
    rows = None if sent.data is None else read(sent.data, precision.outside, plan.inputs)
    if rows is not None and not plan.inputs:
        plan = replace(plan, inputs=rows.plans())
    if sent.architecture is not None:
        load = partial(_from_spec, sent.architecture, plan, sent.weights)
    elif program is not None:
        load = partial(program.build, mode=plan.mode)
    elif sent.file is not None:
        load = partial(_from_file, sent.file, plan)
    else:
        raise InternalError("neither an architecture nor a file was given")
    model = load(dtype=precision.stored, device=device)
    if not precision.is_pure:
        small = sent.architecture is not None and _is_small(
            plan, sent.architecture, model, memory_mb
        )
        return Opened(plan, model, rows, None, small)
    if program is not None and sent.file is not None:
        # What is built of a program shares its tensors, which are cast in place.
        sent.file.seek(0)
        load = partial(_program(sent.file).build, mode=plan.mode)
    return Opened(plan, model, rows, load(dtype=precision.outside, device=device))


def _check_size(plan: ProbePlan, sent: Sent, memory_mb: int) -> None:
    if sent.architecture is not None:
        foresight.check_spec(plan, sent.architecture, memory_mb)
    elif sent.file is not None and sent.file.seekable():
        foresight.check_file(plan, sent.file, sent.model_format, memory_mb)


def _is_small(
    plan: ProbePlan, architecture: Architecture, model: LoadedModel, memory_mb: int | None
) -> bool:
    if memory_mb is not None and comes_near(plan, architecture, memory_mb):
        return False
    shapes = [tuple(value.shape) for value in model.parameters.values()]
    # Decoders have more places further on than their inputs have.
    given = (InputPlan(layer.output_shape) for layer in architecture.layers)
    batch_size = plan.batch_size or AUTO_BATCH
    return multiplications(shapes, (*plan.inputs, *given), batch_size) < SMALL


def _is_program(sent: Sent) -> bool:
    return sent.model_format == EXPORTED_PROGRAM


def _program(file: IO[bytes]) -> ExportedProgram:
    # Only here: it imports sympy and PyTorch's compiler, which nothing else needs.
    from service.probing.loaders import exported_program

    return exported_program.read(file)


def _from_file(
    file: IO[bytes], plan: ProbePlan, *, dtype: torch.dtype, device: torch.device
) -> LoadedModel:
    if file.seekable():
        file.seek(0)
    return torchscript.load(file, mode=plan.mode, dtype=dtype, device=device)


def _from_spec(
    architecture: Architecture,
    plan: ProbePlan,
    weights: bytes | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> LoadedModel:
    devices.seed(plan.seed)
    module = spec.build(architecture)
    if weights is not None:
        _load(module, read_weights(weights))
        return loaded("spec", module, mode=plan.mode, dtype=dtype, device=device)

    def fresh() -> dict[str, Tensor]:
        return dict(spec.build(architecture).named_parameters())

    return loaded("spec", module, mode=plan.mode, dtype=dtype, device=device, fresh=fresh)


def _load(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Every parameter; buffers may be missing and stay as they are. Raises ModelRaised."""
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelRaised(first_lines(error)) from error
    absent = [name for name, _ in module.named_parameters() if name in missing]
    if absent or unexpected:
        raise ModelRaised(
            f"the weights do not fit the spec; missing: {absent[:3]}, unexpected: {unexpected[:3]}"
        )


def _with_inputs(plan: ProbePlan, architecture: Architecture) -> ProbePlan:
    if plan.inputs:
        return plan
    given = tuple(InputPlan(one.shape, one.dtype, high=one.high) for one in architecture.inputs)
    return replace(plan, inputs=given)
