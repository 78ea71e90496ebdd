"""The torch-free table of layer types against torch itself."""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import LayerNode
from service.domain.layers import LAYER_TYPES
from service.domain.layers.initializers import (
    INITIALIZERS,
    NONLINEARITIES,
    DoesNotFit,
    Initializer,
    Parameter,
)
from service.domain.layers.kinds import (
    Choice,
    Each,
    Either,
    Flag,
    Kind,
    Nested,
    Null,
    OnlyFalse,
    Real,
    Whole,
)
from service.domain.layers.layer_type import Applied, LayerType, Takes
from service.domain.layers.signature import REQUIRED, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Tensor
from service.probing.loaders.own_types import OWN_TYPES
from service.probing.loaders.spec import SpecNetwork, forget_gate_

BATCH = 3
TRIES = 2_000
"""Random calls of every layer type …"""
ENOUGH = 40
"""… until so many were accepted."""
LEFT_OUT = {
    "device", "dtype",             # where and how precisely to compute is the probe's business
    "_weight", "_freeze", "_random_samples", "custom_encoder", "custom_decoder",  # no JSON values
    "min_value", "max_value",      # deprecated names of Hardtanh's min_val and max_val
}  # fmt: skip
"""Arguments of torch's constructors that a spec does not take."""
OTHER_DEFAULT = {"batch_first": True, "enable_nested_tensor": False}
"""Where the table's default is not torch's (and is therefore always written out)."""
EXCLUDED = {
    "AdaptiveLogSoftmaxWithLoss", "CosineSimilarity", "PairwiseDistance",  # losses and distances
    "CrossMapLRN2d",               # LocalResponseNorm, outdated
    "DataParallel", "SyncBatchNorm", "RNNBase", "RNNCellBase", "Container", "Module",
    "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential",
    "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",  # need another layer's indices
}  # fmt: skip
"""Modules of torch.nn that are not layers of a spec."""


def torch_modules() -> Iterator[str]:
    for name in dir(nn):
        member = getattr(nn, name)
        if inspect.isclass(member) and issubclass(member, nn.Module):
            yield name


def test_the_table_has_every_layer_of_torch_nn() -> None:
    ours = set(LAYER_TYPES) - set(OWN_TYPES)
    theirs = {
        name for name in torch_modules() if not name.startswith("Lazy") and "Loss" not in name
    }
    assert theirs - EXCLUDED == ours


def torch_signature(name: str) -> dict[str, Any]:
    """Argument names of a torch.nn constructor → defaults."""
    member = getattr(nn, name)
    if name in ("RNN", "LSTM", "GRU"):
        found = inspect.signature(nn.RNNBase.__init__).parameters
    else:
        found = inspect.signature(member.__init__).parameters
    return {
        parameter.name: REQUIRED if parameter.default is parameter.empty else parameter.default
        for parameter in found.values()
        if parameter.name not in {"self", "args", "kwargs", "mode" if name in GATED else "self"}
        and parameter.name not in LEFT_OUT
    }


GATED = ("RNN", "LSTM", "GRU")


@pytest.mark.parametrize("name", [name for name in LAYER_TYPES if name not in OWN_TYPES])
def test_names_and_defaults_are_those_of_the_constructor(name: str) -> None:
    expected = torch_signature(name)
    if name in ("RNN", "GRU"):
        del expected["proj_size"]  # LSTM's alone
    if name == "RNN":
        expected["nonlinearity"] = "tanh"
    expected |= {key: value for key, value in OTHER_DEFAULT.items() if key in expected}
    if callable(expected.get("activation")):
        expected["activation"] = expected["activation"].__name__
    ours = {argument.name: argument.default for argument in LAYER_TYPES[name].arguments}
    assert ours == expected
    assert list(ours) == list(expected)


@pytest.mark.parametrize("name", LAYER_TYPES)
def test_defaults_are_values_the_argument_takes(name: str) -> None:
    for argument in LAYER_TYPES[name].arguments:
        assert argument.default is REQUIRED or argument.kind.accepts(argument.default)


def draw(kind: Kind, rng: random.Random) -> Any:
    """A small value of a kind."""
    match kind:
        case Whole(low, high):
            return rng.choice([n for n in (-2, -1, 0, 1, 1, 2, 2, 3, 4, 6) if low <= n <= high])
        case Real(low, high, above):
            floor = low if above is None else max(low, above + 1e-9)
            return rng.choice([x for x in (-0.5, 0, 0.25, 0.5, 1.0, 2) if floor <= x <= high])
        case Flag():
            return rng.random() < 0.5
        case OnlyFalse():
            return False
        case Null():
            return None
        case Choice(words):
            return rng.choice(words)
        case Each(item, counts):
            return [draw(item, rng) for _ in range(rng.choice(counts[:4]))]
        case Either(kinds):
            return draw(rng.choice(kinds), rng)
        case Nested(types):
            return {
                "type": (inner := rng.choice(types)),
                "args": draw_args(LAYER_TYPES[inner], rng),
            }
    raise AssertionError(f"no values for {kind}")


def draw_args(layer_type: LayerType, rng: random.Random) -> dict[str, Any]:
    return {
        argument.name: draw(argument.kind, rng)
        for argument in layer_type.arguments
        if argument.required or rng.random() < (0.15 if argument.infer else 0.4)
    }


def draw_inputs(layer_type: LayerType, rng: random.Random) -> Inputs:
    low, high = layer_type.ranks
    rank = rng.randint(low, min(low + 3, 5) if high is None else high)
    shape = tuple(rng.choice((1, 2, 3, 4, 4, 5, 6, 8, 12)) for _ in range(rank))
    dtype = "int64" if layer_type.takes is Takes.INTEGERS else "float32"
    count = rng.choice(layer_type.input_counts or (2, 3))
    if layer_type.name == "Transformer":
        shape = (rng.randint(1, 4), rng.choice((4, 6)))  # d_model is not inferred
    return tuple(
        Tensor(tuple(s if rng.random() < 0.85 else rng.choice((1, 2)) for s in shape), dtype)
        if place
        else Tensor(shape, dtype)
        for place in range(count)
    )


def real_forward(layer_type: LayerType, applied: Applied, inputs: Inputs) -> tuple[Any, nn.Module]:
    """What torch makes of it: a network of this one layer."""
    names = tuple(f"in{place}" for place in range(len(inputs)))
    node = LayerNode(
        "only", layer_type.name, applied.args, names, {}, (), "float32", applied.parameters, ""
    )
    network = SpecNetwork((node,))
    high = applied.args.get("num_embeddings", 1)
    tensors = {
        name: torch.randint(0, high, (BATCH, *tensor.shape))
        if tensor.is_integer
        else torch.randn(BATCH, *tensor.shape)
        for name, tensor in zip(names, inputs, strict=True)
    }
    return network.run(tensors), network


def attempts(name: str) -> Iterator[tuple[LayerType, dict[str, Any], Inputs, Applied | str]]:
    """Random calls of one type, and what the table says of each."""
    layer_type = LAYER_TYPES[name]
    for case in range(TRIES):
        rng = random.Random(f"{name}-{case}")
        args, inputs = draw_args(layer_type, rng), draw_inputs(layer_type, rng)
        faults = layer_type.signature.faults(args)
        if faults:
            yield layer_type, args, inputs, faults[0].detail
            continue
        try:
            yield layer_type, args, inputs, layer_type.apply(args, inputs)
        except (BadArgument, Misfit) as refusal:
            yield layer_type, args, inputs, str(refusal)


@pytest.mark.parametrize("name", LAYER_TYPES)
def test_what_the_table_accepts_torch_computes_as_foretold(name: str) -> None:
    torch.manual_seed(0)
    accepted = 0
    for layer_type, args, inputs, verdict in attempts(name):
        if isinstance(verdict, str):
            continue
        accepted += 1
        if accepted > ENOUGH:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output, network = real_forward(layer_type, verdict, inputs)
        told = (tuple(output.shape), str(output.dtype))
        expected = ((BATCH, *verdict.output.shape), f"torch.{verdict.output.dtype}")
        assert told == expected, (args, inputs)
        shapes = [(name, tuple(p.shape)) for name, p in network.named_parameters()]
        assert shapes == [(f"only.{n}", shape) for n, shape in verdict.parameters.items()], args
    assert accepted > ENOUGH // 2


TORCH_INITIALIZERS = [name for name in INITIALIZERS if name != "forget_gate_"]


def test_every_function_of_torch_nn_init_is_there() -> None:
    theirs = {name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")}
    assert set(TORCH_INITIALIZERS) == theirs


@pytest.mark.parametrize("name", TORCH_INITIALIZERS)
def test_initializers_have_torchs_arguments(name: str) -> None:
    found = inspect.signature(getattr(nn.init, name)).parameters
    expected = {
        p.name: REQUIRED if p.default is p.empty else p.default
        for p in found.values()
        if p.name not in ("tensor", "generator")
    }
    assert {a.name: a.default for a in INITIALIZERS[name].arguments} == expected


def test_nonlinearities_are_those_with_a_gain() -> None:
    for nonlinearity in NONLINEARITIES:
        assert nn.init.calculate_gain(nonlinearity) > 0  # type: ignore[arg-type]


SHAPES = ((4,), (1,), (4, 6), (6, 4), (4, 3, 3), (6, 2, 3, 3), (4, 2, 3, 3, 3))


def fits(initializer: Initializer, args: dict[str, Any], shape: tuple[int, ...]) -> bool:
    try:
        initializer.check_fit(args, Parameter("Linear", "weight", shape))
    except DoesNotFit:
        return False
    return True


@pytest.mark.parametrize("name", TORCH_INITIALIZERS)
def test_an_initializer_fits_what_torch_lets_it_fill(name: str) -> None:
    initializer = INITIALIZERS[name]
    agreed = 0
    for case in range(100):
        rng = random.Random(f"{name}-{case}")
        args = {
            argument.name: draw(argument.kind, rng)
            for argument in initializer.arguments
            if argument.required or rng.random() < 0.5
        }
        if initializer.signature.faults(args):
            continue
        shape = rng.choice(SHAPES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                getattr(nn.init, name)(torch.empty(shape), **args)
                filled = True
            except (ValueError, RuntimeError):
                filled = False
        assert fits(initializer, args, shape) == filled, (args, shape)
        agreed += 1
    assert agreed >= 20


def test_forget_gate_fills_the_second_quarter() -> None:
    bias = torch.zeros(12)
    assert forget_gate_(bias, 2.0).tolist() == [0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 0]
