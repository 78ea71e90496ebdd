"""The graph of an exported program: operators, sizes, lists of tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.domain.exported_program import UnreadableProgram
from service.intake import limits
from service.intake.check import check_model
from service.intake.program import program_in
from tests.unit.intake.archives import exported, program, refused_program


def test_a_plain_program_passes_and_tells_its_input(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(exported({}))
    check_model(path, "exported_program")
    assert [one.plan().shape for one in program_in(path).inputs] == [(3,)]


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.fbgemm.gather.default",
        "torch.load",
        "torch.hub.load",
        "_operator.methodcaller",
        "torch.ops.aten.add.Tensor.__globals__",
        "builtins.eval",
        "torch.ops.higher_order.call_torchbind",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_only_known_operators_are_called(tmp_path: Path, target: str, nested: bool) -> None:
    said = program()
    node: dict[str, Any] = {"target": target, "inputs": [], "outputs": []}
    if nested:
        graph = {"as_graph": {"name": "inner", "graph": {"nodes": [node]}}}
        node = {
            "target": "torch.ops.higher_order.cond",
            "inputs": [{"name": "", "arg": graph}],
            "outputs": [],
        }
    said["graph_module"]["graph"]["nodes"].append(node)
    assert f"its graph calls '{target}'" in refused_program(tmp_path, said)


@pytest.mark.parametrize(
    "expression",
    [
        "().__class__",
        "s0.__class__",
        "__import__('os')",
        "Symbol('s0'); 1",
        "Symbol('__import__')",
        "s0 if 1 else lambda: 0",
        '"s0"',
        "[s0]",
        "9**99999999999999999999",
        "s0+" * 1000 + "1",
    ],
)
def test_sizes_are_expressions_over_sizes(tmp_path: Path, expression: str) -> None:
    said = program()
    said["graph_module"]["graph"]["tensor_values"]["z"] = {
        "sizes": [{"as_expr": {"expr_str": expression, "hint": {"as_int": 4}}}]
    }
    assert "is no expression over sizes" in refused_program(tmp_path, said)


@pytest.mark.parametrize(
    "expression",
    ["s0", "2*s0 + 1", "Symbol('s77', positive=True, integer=True)", "FloorDiv(s0, 2)",
     "Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))", "Max(1, s0 - 3)"],
)  # fmt: skip
def test_sizes_that_torch_writes_pass(tmp_path: Path, expression: str) -> None:
    said = program()
    said["graph_module"]["graph"]["tensor_values"]["z"] = {
        "sizes": [{"as_expr": {"expr_str": expression, "hint": {"as_int": 4}}}]
    }
    path = tmp_path / "model"
    path.write_bytes(exported({"net/models/model.json": json.dumps(said).encode()}))
    check_model(path, "exported_program")


def test_a_pickled_tensor_is_refused(tmp_path: Path) -> None:
    config = {"config": {"fc.weight": {"path_name": "weight_0", "use_pickle": True}}}
    members = {"net/data/weights/model_weights_config.json": json.dumps(config).encode()}
    assert "'weight_0' is a pickled object" in refused_program(tmp_path, program(), members)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"[]", b"{}", b"\xff", b'{"a": ' + b"9" * 10_000 + b"}"]
)
def test_what_is_no_program_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(exported({"net/models/model.json": content}))
    assert refused_program(tmp_path, content)
    with pytest.raises(UnreadableProgram):
        program_in(path)


def test_one_program_is_wanted(tmp_path: Path) -> None:
    second = {"net/models/other.json": b"{}"}
    assert "2 programs" in refused_program(tmp_path, program(), second)


def test_it_is_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PROGRAM", 100)
    assert "model.json" in refused_program(tmp_path, program())
