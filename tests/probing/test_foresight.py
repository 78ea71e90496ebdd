"""What cannot fit is refused before anything of its size is allocated, and nothing else is."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.domain.errors import ProbeOutOfMemory
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing import foresight
from service.probing.loaders import exported_program, torchscript
from service.probing.loaders import spec as spec_loader
from service.probing.session import Session
from tests.probing.models import saved, traced


def spec(shape: list[int], *layers: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    written = [{"type": name, "args": args} for name, args in layers]
    return {"input": {"shape": shape, **more}, "layers": written}


HEAD = ("Linear", {"out_features": 10})
SPECS = {
    "convolutional": spec(
        [3, 16, 16],
        ("Conv2d", {"out_channels": 8, "kernel_size": 3}),
        ("BatchNorm2d", {}),
        ("ReLU", {}),
        ("MaxPool2d", {"kernel_size": 2}),
        ("Dropout", {"p": 0.1}),
        ("Flatten", {}),
        HEAD,
    ),
    "recurrent": spec([12, 8], ("GRU", {"hidden_size": 8}), ("LastStep", {}), HEAD),
    "attention": spec(
        [12, 8], ("TransformerEncoderLayer", {"nhead": 2, "dim_feedforward": 16}), HEAD
    ),
    "words": spec(
        [12], ("Embedding", {"num_embeddings": 30, "embedding_dim": 8}), HEAD, dtype="int64"
    ),
}
SPECS["initialized"] = {
    "input": {"shape": [8]},
    "layers": [
        {"type": "Linear", "args": {"out_features": 8}, "init": {"weight": {"name": "orthogonal_"}}}
    ],
}
BILLION = spec([11_000], *[("Linear", {"out_features": 11_000})] * 8)


def planned(document: dict[str, Any], **more: Any) -> ProbePlan:
    given = document["input"]
    return ProbePlan(
        inputs=(InputPlan(tuple(given["shape"]), given.get("dtype", "float32"), high=30),), **more
    )


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16", "pure_bfloat16"])
@pytest.mark.parametrize("name", SPECS)
def test_outputs_are_foreseen_and_never_more(name: str, precision: str) -> None:
    plan = planned(SPECS[name], precision=precision, batch_size=2, trial_steps=0)
    session = Session.open(plan, resolve(SPECS[name]), None)
    recorded = sum(n.meta.get("bytes", 0) for n in session.recording.module.graph.nodes)
    foreseen = foresight.sample_bytes(plan, resolve(SPECS[name]))
    assert 0.99 * recorded / 2 < foreseen <= recorded / 2


def test_foreseeing_leaves_everything_as_it_was() -> None:
    before = torch.get_rng_state()
    foresight.sample_bytes(planned(SPECS["words"], precision="float64"), resolve(SPECS["words"]))
    assert torch.get_default_dtype() is torch.float32
    assert torch.equal(before, torch.get_rng_state())


def test_a_billion_parameters_are_refused_before_any_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spec_loader, "build", _never)
    with pytest.raises(ProbeOutOfMemory, match=r"18,46\d MiB and 4,096 MiB are allowed; the para"):
        Session.open(planned(BILLION), resolve(BILLION), None, memory_mb=4096)


def test_outputs_that_are_too_large_are_refused_with_what_would_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = spec(
        [3, 512, 512], *[("Conv2d", {"out_channels": 32, "kernel_size": 3, "padding": 1})] * 3
    )
    monkeypatch.setattr(torch.nn.Conv2d, "forward", _only_without_elements)
    # A sample: the input of 3 MiB and three outputs of 32, thrice over, make 297.
    with pytest.raises(ProbeOutOfMemory, match=r"4,752 MiB and 2,048 .* batch_size 6 would fit"):
        Session.open(planned(large, batch_size=16), resolve(large), None, memory_mb=2048)


def test_what_fits_is_not_refused() -> None:
    wide = spec([256], *[("Linear", {"out_features": 256})] * 8)
    for memory_mb in (16, 64, 512):
        Session.open(planned(wide, trial_steps=0), resolve(wide), None, memory_mb=memory_mb)


def test_sixteen_bits_are_counted_with_the_float32_beside_them() -> None:
    wide = spec([1024], *[("Linear", {"out_features": 1024})] * 4)
    foresight.check_spec(planned(wide), resolve(wide), 100)
    for precision in ("bfloat16", "pure_bfloat16"):
        with pytest.raises(ProbeOutOfMemory):
            foresight.check_spec(planned(wide, precision=precision), resolve(wide), 100)


def _never(*_: object) -> None:
    raise AssertionError("it was built")


_conv2d = nn.Conv2d.forward


def _only_without_elements(self: nn.Conv2d, given: torch.Tensor) -> torch.Tensor:
    assert type(given) is not torch.Tensor, "it was run"
    return _conv2d(self, given)


def _exported(model: nn.Module, example: torch.Tensor) -> io.BytesIO:
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (example,)), file)
    file.seek(0)
    return file


@pytest.mark.parametrize("form", ["torchscript", "exported_program"])
def test_a_files_parameters_are_counted_before_they_are_read(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(*(nn.Linear(512, 512) for _ in range(4)))
    # What is no parameter is held but once.
    model[1].register_buffer("table", torch.zeros(512, 512))
    example = torch.randn(3, 512)
    is_script = form == "torchscript"
    file = saved(traced(model, example)) if is_script else _exported(model, example)
    plan = ProbePlan(inputs=(InputPlan((512,)),), batch_size=3)
    foresight.check_file(plan, file, form, 21)
    assert file.read(2) == b"PK"
    monkeypatch.setattr(torchscript, "load", _never)
    monkeypatch.setattr(exported_program, "read", _never)
    with pytest.raises(ProbeOutOfMemory, match="needs about 20 MiB and 19 MiB are allowed"):
        Session.open(plan, None, file, model_format=form, memory_mb=19)


def test_a_broken_file_is_left_to_its_loader() -> None:
    file = io.BytesIO(bytes(2**21))
    foresight.check_file(ProbePlan(), file, "torchscript", 1)
    assert file.tell() == 0
