"""Exported programs (.pt2): the eager module's numbers, on the program's own terms."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.domain.errors import ModelRaised
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.session import Session
from tests.probing.exported import ANY, Network, Recurrent, Transformer, exported

MLP = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
TOKENS = torch.arange(18).view(3, 6) % 11
MODELS: dict[str, tuple[type[nn.Module] | nn.Module, tuple[Tensor, ...]]] = {
    "mlp": (MLP, (torch.ones(3, 4),)),
    "convolutions": (Network, (torch.ones(3, 3, 8, 8),)),
    "recurrent": (Recurrent, (TOKENS,)),
    "transformer": (Transformer, (TOKENS, torch.ones(3, 6))),
}
PLAN = ProbePlan(batches=2, seeds=1, trial_steps=4)


def module(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    kind, example = MODELS[name]
    return (kind if isinstance(kind, nn.Module) else kind()), example


def opened(file: io.BytesIO, plan: ProbePlan = PLAN) -> Session:
    return Session.open(plan, None, file, model_format="exported_program")


def logits(output: Any) -> Tensor:
    if isinstance(output, tuple):
        output = output[0]
    result: Tensor = output["logits"] if isinstance(output, dict) else output
    return result


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("decomposed", [False, True], ids=["as exported", "decomposed"])
@pytest.mark.parametrize("name", MODELS)
def test_output_and_gradients_are_the_eager_modules(
    name: str, decomposed: bool, train: bool
) -> None:
    eager, example = module(name)
    eager.train(train)
    shapes = tuple({0: ANY} for _ in example)
    session = opened(exported(eager, example, shapes, decomposed=decomposed))
    assert session.batch_size == 64
    assert session.recorded
    assert set(session.model.parameters) == {key for key, _ in eager.named_parameters()}

    batch = session.batch(0, 0)
    torch.manual_seed(7)
    expected = logits(eager(*batch.inputs))
    torch.manual_seed(7)
    found = session.recording.module(*batch.inputs)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    if decomposed and name == "transformer":
        return  # run_decompositions() forgets its torch.no_grad
    wanted = torch.autograd.grad(expected.square().mean(), list(eager.parameters()))
    given = torch.autograd.grad(
        found.square().mean(), [session.parameters[key] for key, _ in eager.named_parameters()]
    )
    for left, right in zip(given, wanted, strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)


def test_it_is_measured_trained_edited_and_exported_as_a_spec_is() -> None:
    eager, example = module("convolutions")
    session = opened(exported(eager, example, ({0: ANY},)))
    measured = session.measure()
    assert [(layer.name, layer.op) for layer in measured.layers] == [
        ("conv", "conv2d"),
        ("head", "linear"),
    ]
    assert measured.layers[0].nonlinearity == "relu"
    assert measured.notes == ()
    changed = session.measure(({"kind": "activation", "layers": ["conv"], "activation": "Tanh"},))
    assert changed.layers[0].nonlinearity == "tanh"
    assert session.trial().runs
    weights = io.BytesIO()
    assert session.export(weights) == len(weights.getvalue())
    facts = session.facts()
    assert (facts.format, facts.parameters) == ("exported_program", 845)


def test_a_fixed_batch_is_kept_and_said() -> None:
    eager, example = module("convolutions")
    session = opened(exported(eager, example))
    assert session.batch_size == 3
    (note,) = session.measure().notes
    assert note.startswith("batch_size: the program was exported for batches of 3")
    with pytest.raises(ModelRaised, match="batches of 3, not 16"):
        opened(exported(eager, example), ProbePlan(batch_size=16))


def test_the_mode_is_the_exports() -> None:
    eager, example = module("convolutions")
    file = exported(eager.eval(), example, ({0: ANY},))
    (note,) = opened(file).measure().notes
    assert note.startswith("mode: the program was exported in evaluation mode")
    norm = opened(file).measure().layers[0].batch_normalization
    assert norm is not None
    assert not norm.own_statistics
    assert opened(file, ProbePlan(mode="eval", trial_steps=0)).measure().notes == ()


def test_its_inputs_are_its_own() -> None:
    eager, example = module("transformer")
    session = opened(exported(eager, example, tuple({0: ANY} for _ in example)))
    assert session.facts().inputs == (InputPlan((6,), "int64", high=13), InputPlan((6,)))


def test_shared_weights_stay_shared() -> None:
    eager, example = module("recurrent")
    session = opened(exported(eager, example, ({0: ANY},)))
    assert dict(session.model.aliases) == {"head.weight": "embedding.weight"}


def test_in_double_precision_too() -> None:
    eager, example = module("recurrent")
    plan = ProbePlan(batches=1, seeds=1, trial_steps=0, precision="float64")
    session = opened(exported(eager, example, ({0: ANY},)), plan)
    tokens = session.batch(0, 0).inputs
    expected = eager.double()(*tokens)
    eager.float()
    torch.testing.assert_close(session.recording.module(*tokens), expected)


def test_files_of_older_versions_are_read() -> None:
    """torch.export.save up to 2.7: a zip of JSON and what torch.save writes."""
    from torch._export.serde.serialize import serialize

    eager, example = module("mlp")
    program = torch.export.export(eager, example, dynamic_shapes=({0: ANY},))
    parts = serialize(program)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("version", "8.5")
        archive.writestr("serialized_exported_program.json", parts.exported_program)
        archive.writestr("serialized_state_dict.pt", parts.state_dict)
        archive.writestr("serialized_constants.pt", parts.constants)
        archive.writestr("serialized_example_inputs.pt", b"not even a pickle")
    session = opened(file)
    x = session.batch(0, 0).inputs[0]
    torch.testing.assert_close(session.recording.module(x), eager(x))


def repacked(file: io.BytesIO, changed: dict[str, bytes]) -> io.BytesIO:
    """The same archive with members, named by their ends, of other content."""
    made = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            content = next((c for end, c in changed.items() if name.endswith(end)), old.read(name))
            new.writestr(name, content)
    return made


def test_sample_inputs_are_not_looked_at() -> None:
    eager, example = module("mlp")
    file = repacked(exported(eager, example), {"sample_inputs/model.pt": b"anything"})
    assert opened(file).measure().layers


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"models/model.json": b"{"}, "could not be loaded as an exported program"),
        ({"models/model.json": b"{}"}, "not what torch.export.save writes"),
        ({"weight_0": b"1234567"}, "could not be loaded as an exported program"),
        ({"model_weights_config.json": b'{"config": {}}'}, "the file has no tensor 0.weight"),
    ],
)
def test_a_broken_file_is_said_to_be_broken(changed: dict[str, bytes], said: str) -> None:
    eager, example = module("mlp")
    with pytest.raises(ModelRaised, match=said):
        opened(repacked(exported(eager, example), changed))


def test_pickled_weights_are_not_unpickled() -> None:
    eager, example = module("mlp")
    file = exported(eager, example)
    with zipfile.ZipFile(file) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith("model_weights_config.json")]
        config = json.loads(archive.read(name))
    config["config"]["0.weight"]["use_pickle"] = True
    changed = {"model_weights_config.json": json.dumps(config).encode()}
    with pytest.raises(ModelRaised, match=r"0.weight is a pickled object"):
        opened(repacked(file, changed))
