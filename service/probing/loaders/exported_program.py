"""Exported programs: what `torch.export.save` writes (.pt2).

A program comes as a graph in JSON. Reading it evaluates sizes as expressions: only a sealed child
may do it.
"""

from __future__ import annotations

from typing import IO, Any

import torch
from torch import fx, nn
from torch._export.serde import schema
from torch._export.serde.serialize import (
    GraphModuleDeserializer,
    SerializeError,
    _dict_to_dataclass,
    _int_to_sympy_int,
)
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from service.domain.errors import InvalidRequest, ModelRaised, ProbeFailure
from service.domain.exported_program import Program, answer_named, program_of
from service.domain.model_source import EXPORTED_PROGRAM
from service.domain.probe_plan import ProbePlan
from service.probing.devices import CPU
from service.probing.loaders import exported_archive
from service.probing.loaders.exported_archive import Saved
from service.probing.loaders.exported_module import ExportedModule
from service.probing.loaders.loaded import LoadedModel, loaded
from service.probing.trace import first_lines


class ExportedProgram:
    """A program whose files have been read, not yet built."""

    def __init__(self, saved: Saved, program: Program) -> None:
        self._saved = saved
        self._program = program

    def fitted(self, plan: ProbePlan) -> ProbePlan:
        """The plan with the program's own inputs and a batch size it takes. Raises ModelRaised."""
        try:
            return self._program.fitted(plan)
        except InvalidRequest as error:
            raise ModelRaised(error.detail) from error

    def build(self, *, mode: str, dtype: torch.dtype, device: torch.device = CPU) -> LoadedModel:
        """A module that runs it. Raises ModelRaised."""
        try:
            module = _module(self._saved, dtype)
        except ProbeFailure:
            raise
        except Exception as error:
            raise _unloadable(error) from error
        notes = self._program.notes(mode)
        return loaded(
            EXPORTED_PROGRAM, module, mode="as_saved", dtype=dtype, device=device, notes=notes
        )


def read(file: IO[bytes]) -> ExportedProgram:
    """Read a .pt2 file. Raises ModelRaised when it is broken or takes what cannot be drawn."""
    try:
        saved = exported_archive.read(file)
        return ExportedProgram(saved, program_of(saved.program))
    except ProbeFailure:
        raise
    except Exception as error:
        raise _unloadable(error) from error


def _unloadable(error: Exception) -> ModelRaised:
    gist = first_lines(error, 300)
    return ModelRaised(f"the file could not be loaded as an exported program: {gist}")


def _module(saved: Saved, dtype: torch.dtype) -> nn.Module:
    program = _dict_to_dataclass(schema.ExportedProgram, _on_cpu(saved.program))
    if program.schema_version.major != schema.SCHEMA_VERSION[0]:
        raise SerializeError(
            f"written with version {program.schema_version.major} of the format, "
            f"{schema.SCHEMA_VERSION[0]} is read"
        )
    # Comments on where an operation came from name functions that need not be looked up, and how
    # nested inputs were packed is not asked for: the graph is called with tensors alone.
    logits = _logits(program.graph_module.module_call_graph)
    program.graph_module.module_call_graph = []
    _forget_origins(program.graph_module.graph)
    result = GraphModuleDeserializer().deserialize(
        program.graph_module, {}, {}, None, _ranges(program)
    )
    _prepare(result.graph_module, dtype)
    return ExportedModule(result.graph_module, result.signature, saved, logits)


def _logits(calls: list[schema.ModuleCallEntry]) -> int | None:
    """Which answer of the whole model is called so."""
    signature = next((call.signature for call in calls if not call.fqn), None)
    return None if signature is None else answer_named("logits", signature.out_spec)


def _ranges(program: schema.ExportedProgram) -> dict[str, ValueRanges[Any]]:
    return {
        name: ValueRanges(
            _int_to_sympy_int(bounds.min_val, -int_oo), _int_to_sympy_int(bounds.max_val, int_oo)
        )
        for name, bounds in program.range_constraints.items()
    }


def _on_cpu(said: Any) -> Any:
    """The same program for this device, whichever it was exported on."""
    if isinstance(said, list):
        return [_on_cpu(one) for one in said]
    if not isinstance(said, dict):
        return said
    if said.keys() == {"type", "index"} and isinstance(said["type"], str):
        return {"type": "cpu", "index": None}
    return {name: _on_cpu(one) for name, one in said.items()}


def _forget_origins(graph: schema.Graph) -> None:
    for node in graph.nodes:
        node.metadata = {}
        for argument in node.inputs:
            if argument.arg.type == "as_graph":
                _forget_origins(argument.arg.as_graph.graph)


def _prepare(module: fx.GraphModule, dtype: torch.dtype) -> None:
    """Make the graph one that can be recorded, at the probe's precision."""
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        if "_assert" in str(node.target) and not node.users:
            # They repeat what was true when it was exported, dtypes included.
            module.graph.erase_node(node)
            continue
        if node.target is torch.ops.higher_order.wrap_with_set_grad_enabled:
            node.target = _with_grad_mode
        if dtype is not torch.float32:
            node.args = fx.node.map_aggregate(node.args, lambda x: _at(x, dtype))
            node.kwargs = fx.node.map_aggregate(node.kwargs, lambda x: _at(x, dtype))
    module.recompile()
    for inner in module.children():
        if isinstance(inner, fx.GraphModule):
            _prepare(inner, dtype)


def _at(value: Any, dtype: torch.dtype) -> Any:
    return dtype if value is torch.float32 else value


def _with_grad_mode(enabled: bool, function: Any, *arguments: Any) -> Any:
    """What torch.export makes of a region under torch.no_grad."""
    with torch.set_grad_enabled(enabled):
        return function(*arguments)
