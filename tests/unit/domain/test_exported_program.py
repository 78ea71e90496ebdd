"""What an exported program's JSON says of its inputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from service.domain.errors import InvalidRequest, ShapeMismatch
from service.domain.exported_program import Dimension, UnreadableProgram, program_of
from service.domain.probe_plan import InputPlan, ProbePlan


def tensor(*sizes: Any, dtype: int = 7) -> dict[str, Any]:
    said = [
        {"as_int": one}
        if isinstance(one, int)
        else {"as_expr": {"expr_str": one, "hint": {"as_int": 4}}}
        for one in sizes
    ]
    return {"dtype": dtype, "sizes": said}


S0 = "Symbol('s0', positive=True, integer=True)"


def program(*inputs: dict[str, Any], high: int | None = None, **names: Any) -> dict[str, Any]:
    """Takes these tensors; ids of a token input go through a sum into an embedding of 30 rows."""
    own = {f"x{index}": one for index, one in enumerate(inputs)}
    reckoned = {"ids": tensor(S0, 5, dtype=5), "table": tensor(30, 8), "found": tensor(S0, 5, 8)}

    def a(name: str) -> dict[str, Any]:
        return {"as_tensor": {"name": name}}

    nodes = [
        {
            "target": "torch.ops.aten.add.Tensor",
            "inputs": [{"name": "self", "arg": a("x0")}, {"name": "other", "arg": {"as_int": 1}}],
            "outputs": [a("ids")],
        },
        {
            "target": "torch.ops.aten.embedding.default",
            "inputs": [{"name": "weight", "arg": a("table")}, {"name": "indices", "arg": a("ids")}],
            "outputs": [a("found")],
        },
    ]
    specs = [{"parameter": {"arg": {"name": "table"}}}]
    specs += [{"user_input": {"arg": a(name)}} for name in own]
    return {
        "range_constraints": {"s0": {"min_val": 0, "max_val": high}},
        "graph_module": {
            "graph": {"nodes": nodes, "tensor_values": {**own, **reckoned}},
            "signature": {"input_specs": specs},
        },
        **names,
    }


def test_free_and_fixed_sizes() -> None:
    found = program_of(program(tensor(S0, 3, "2*s0"), tensor("s0", 7)))
    assert found.batch == Dimension(4, 1, 2**31 - 1)
    assert [one.plan().shape for one in found.inputs] == [(3, 4), (7,)]
    assert found.inputs[0].sizes[1].fixed
    assert found.trains is None


def test_integers_are_drawn_from_the_rows_that_they_look_up() -> None:
    found = program_of(program(tensor(S0, 5, dtype=5), tensor(S0, 5, dtype=1)))
    assert [(one.dtype, one.high) for one in found.inputs] == [("int64", 30), ("uint8", 256)]


@pytest.mark.parametrize(
    ("high", "wanted", "expected"),
    [(None, None, None), (None, 16, 16), (32, None, 32), (32, 8, 8), (100, None, None)],
)
def test_batch_size(high: int | None, wanted: int | None, expected: int | None) -> None:
    found = program_of(program(tensor(S0, 3), high=high))
    plan = found.fitted(ProbePlan(batch_size=wanted))
    assert plan.batch_size == expected
    assert plan.inputs == (InputPlan((3,)),)


def test_a_fixed_batch_size_is_taken_or_refused() -> None:
    found = program_of(program(tensor(4, 3)))
    assert found.fitted(ProbePlan()).batch_size == 4
    with pytest.raises(InvalidRequest) as refused:
        found.fitted(ProbePlan(batch_size=8))
    assert [fault.pointer for fault in refused.value.faults] == ["/probe/batch_size"]
    assert "batches of 4, not 8" in refused.value.detail


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ((InputPlan((3, 9)),), None),
        ((InputPlan((3, 9), distribution="uniform"),), None),
        ((InputPlan((3,)),), "/probe/inputs/0"),
        ((InputPlan((4, 9)),), "/probe/inputs/0"),
        ((InputPlan((3, 33)),), "/probe/inputs/0"),
        ((InputPlan((3, 9), "int64", high=4),), "/probe/inputs/0"),
        ((InputPlan((3, 9)), InputPlan((3, 9))), "/probe/inputs"),
    ],
)
def test_what_the_caller_says_has_to_fit(given: tuple[InputPlan, ...], pointer: str | None) -> None:
    found = program_of(program(tensor(2, 3, S0), high=32))
    if pointer is None:
        assert found.fitted(ProbePlan(inputs=given)).inputs == given
        return
    with pytest.raises(ShapeMismatch) as refused:
        found.fitted(ProbePlan(inputs=given))
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


@pytest.mark.parametrize(
    "said",
    [
        {},
        program(),
        program(tensor()),
        program(tensor(4, 3), tensor(5, 3)),
        program(tensor(S0, 3), tensor(4, 3)),
        program(tensor(-1, 3)),
        program(tensor(2**40, 3)),
        program(tensor(4, 3, dtype=10)),
        program(tensor(4, 3), range_constraints=None),
        {**program(tensor(4, 3)), "graph_module": []},
    ],
)
def test_what_cannot_be_drawn_is_refused(said: dict[str, Any]) -> None:
    if said.get("range_constraints", 0) is None:
        said = copy.deepcopy(said)
        said["graph_module"]["graph"]["tensor_values"]["x0"] = tensor(S0, 3)
    with pytest.raises(UnreadableProgram):
        program_of(said)


def test_the_mode_is_told_by_what_depends_on_it() -> None:
    said = program(tensor(4, 3))
    drop = {
        "target": "torch.ops.aten.dropout.default",
        "inputs": [{"name": "train", "arg": {"as_bool": False}}],
        "outputs": [],
    }
    said["graph_module"]["graph"]["nodes"].append(drop)
    found = program_of(said)
    assert found.trains is False
    assert "evaluation mode" in found.notes("train")[1]
    assert len(found.notes("eval")) == len(found.notes("as_saved")) == 1
