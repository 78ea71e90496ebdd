"""`graddx spec`: the spec of a module builds the same module; what it cannot say is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from graddx.cli.app import app
from graddx.errors import InvalidInput
from graddx.spec_writer import CannotWrite, load, write_spec
from service.domain.architecture import resolve
from service.probing.loaders.spec import build


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(0.2))
        self.head = nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        x = self.block(x) + x
        out: Tensor = self.head(torch.flatten(x, 1))
        return out


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.head = nn.Linear(16, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        both = torch.cat([torch.tanh(self.fc(left)), torch.tanh(self.fc(right))], dim=1)
        out: Tensor = self.head(both)
        return out


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.lstm = nn.LSTM(8, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.lstm(self.table(x))[0]
        out: Tensor = self.head(steps[:, -1])
        return out


class Scales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.special.erf(self.fc(x)) * self.scale
        return out


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 0) else -x


MODULES: dict[str, tuple[nn.Module, list[dict[str, Any]]]] = {
    "sequential": (
        nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Dropout(0.0), nn.Linear(4, 2)),
        [{"shape": [6]}],
    ),
    "one layer": (nn.Linear(6, 4), [{"shape": [6]}]),
    "residual": (Residual(), [{"shape": [3, 4, 4]}]),
    "siamese": (Siamese(), [{"shape": [6]}, {"shape": [6]}]),
    "recurrent": (Reads(), [{"shape": [5], "dtype": "int64", "high": 11}]),
}


@pytest.mark.parametrize("name", MODULES)
def test_the_spec_builds_the_same_module(name: str) -> None:
    module, inputs = MODULES[name]
    spec = json.loads(json.dumps(write_spec(module, inputs)))
    built = build(resolve(spec))
    weights = module.state_dict()
    assert [v.shape for v in built.state_dict().values()] == [v.shape for v in weights.values()]
    built.load_state_dict(dict(zip(built.state_dict(), weights.values(), strict=True)))
    batch = tuple(
        torch.randint(0, one["high"], (4, *one["shape"]))
        if "high" in one
        else torch.randn(4, *one["shape"])
        for one in inputs
    )
    assert torch.equal(built(*batch), module(*batch))


def test_places_that_a_spec_cannot_say_are_told_together() -> None:
    with pytest.raises(CannotWrite) as told:
        write_spec(Scales(), [{"shape": [4]}])
    assert "special_erf" in str(told.value)
    assert "scale" in str(told.value)
    with pytest.raises(CannotWrite, match=r"torch\.fx cannot follow"):
        write_spec(Branches(), [{"shape": [4]}])
    with pytest.raises(CannotWrite, match="batch_first"):
        write_spec(nn.Sequential(nn.LSTM(4, 4)), [{"shape": [3, 4]}])
    with pytest.raises(CannotWrite, match="its shape was not given"):
        write_spec(Siamese(), [{"shape": [6]}])


def test_from_the_shell(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("from torch import nn\n\ndef make():\n    return nn.Linear(6, 2)\n", "utf-8")
    out = tmp_path / "spec.json"
    done = CliRunner().invoke(app, ["spec", f"{file}:make", "--input", "6", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert resolve(json.loads(out.read_text("utf-8"))).layers[0].type == "Linear"
    wrong = CliRunner().invoke(app, ["spec", f"{file}:no", "--input", "6"])
    assert wrong.exit_code == 2
    with pytest.raises(InvalidInput, match=r"give FILE\.py:NAME"):
        load("net.py")


@pytest.mark.parametrize(
    "activation", [nn.Tanh(), nn.Sigmoid(), nn.Softsign(), nn.Tanhshrink(), nn.Identity()]
)
def test_a_layer_without_arguments_is_said(activation: nn.Module) -> None:
    """Their constructors are Module's own (*args, **kwargs), or ignore what they are given."""
    spec = write_spec(nn.Sequential(nn.Linear(4, 3), activation), [{"shape": [4]}])
    assert [one["type"] for one in spec["layers"]] == ["Linear", type(activation).__name__]
    assert "args" not in spec["layers"][1]
