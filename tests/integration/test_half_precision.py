"""Requests for 16 bits, the whole way: what is found, what is advised, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from service.domain.findings import Finding, Severity, Verdict
from service.domain.report import Report
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from tests.integration.test_judgement import file_report, finding, mlp_spec, spec_report
from tests.probing.models import mlp, resnet, transformer

HE = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
SMALL = {"seeds": 2, "batches": 2, "batch_size": 32}
"""float16 is slow on a processor."""


@pytest.fixture(scope="module")
def prober() -> Iterator[ZygoteProber]:
    """Artifacts are known by their path."""
    prober = ZygoteProber(
        Limits(), "service.probing.child:serve", "service.probing.child:warm_up", Path
    )
    yield prober
    prober.close()


def serious(report: Report) -> list[Finding]:
    return [one for one in report.diagnosis.findings if one.severity is Severity.ERROR]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_healthy_networks_stay_healthy(
    prober: ZygoteProber, tmp_path: Path, precision: str
) -> None:
    torch.manual_seed(0)
    plan = {**SMALL, "precision": precision, "trial_steps": 0}
    reports = {
        "mlp": spec_report(prober, mlp_spec(6, 64, "ReLU", HE), **plan),
        "resnet": file_report(prober, tmp_path, resnet(8, 2), 3, 16, 16, **plan),
        "transformer": file_report(prober, tmp_path, transformer(), 6, 16, **plan),
    }
    for name, report in reports.items():
        assert not serious(report), (name, report.diagnosis.findings)
        assert report.diagnosis.verdict is Verdict.HEALTHY, name
        assert report.probe["precision"] == precision
        assert f"in {precision}" in report.diagnosis.summary
        assert any("torch.autocast" in note for note in report.notes)
        assert all(layer.precision is not None for layer in report.layers)


class Faint(nn.Module):
    """A deep network whose answer is taken times a small number: gradients of about 1e-8."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(
            12, 64, nn.ReLU, init=lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits.float() * 1e-6


def test_a_loss_scale_rescues_what_float16_loses(prober: ZygoteProber, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Faint()
    report = file_report(prober, tmp_path, model, 64, **SMALL, precision="float16", trial_steps=0)
    lost = finding(report, "half_precision_underflow")
    assert lost.severity is Severity.INFO
    assert lost.evidence["underflow_fraction"] > 0.5
    assert lost.evidence["keep_in_float32"] == []
    (scale,) = (one for one in report.recommendations if one.kind == "loss_scaling")
    assert scale.change["loss_scale"] == lost.evidence["loss_scale"] > 2.0**16
    assert scale.change["loss_scale"] * scale.change["largest_gradient"] <= 65504.0 / 8.0
    assert scale.effect is not None
    assert scale.effect.verified is True
    assert scale.effect.before["underflow_fraction"] == lost.evidence["underflow_fraction"]
    assert scale.effect.after["underflow_fraction"] < 0.01
    assert scale.effect.resolved == ("half_precision_underflow",)
    # With a scale, as everybody trains in float16, gradients flow as in float32: the verdict is
    # about the head, which hands on a millionth.
    assert any("loss scaled by" in note for note in report.notes)
    wide = file_report(prober, tmp_path, model, 64, **SMALL, trial_steps=0)
    for name in ("decades", "after_steps"):
        told = [finding(one, "vanishing_gradient").evidence[name] for one in (report, wide)]
        assert told[0] == pytest.approx(told[1], rel=0.01)
    assert serious(report)[0].layers == serious(wide)[0].layers


class TwoSizes(nn.Module):
    """Two branches, of whose gradients float16 can hold either and not both."""

    def __init__(self) -> None:
        super().__init__()
        self.loud = nn.Linear(32, 32)
        self.quiet = nn.Linear(32, 32)
        self.quieter = nn.Linear(32, 32)
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        loud, quiet = torch.tanh(self.loud(x)), self.quieter(torch.tanh(self.quiet(x)))
        mixed = loud.float() * 30.0 + quiet.float() * 1e-9
        logits: Tensor = self.out(mixed)
        return logits


def test_what_no_scale_holds_is_to_be_kept_in_float32(prober: ZygoteProber, tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = file_report(
        prober, tmp_path, TwoSizes(), 32, **SMALL, precision="float16", trial_steps=0
    )
    lost = finding(report, "half_precision_underflow")
    assert lost.severity is Severity.WARNING
    assert lost.evidence["keep_in_float32"] == ["quiet"]
    assert "keep it in float32" in lost.detail
    told = [one for one in report.recommendations if one.kind == "loss_scaling"]
    for one in told:
        assert one.change["keep_in_float32"] == ["quiet"]
        assert "autocast(device_type, enabled=False)" in one.code
        assert one.effect is not None
        # One scale for the whole model: the quiet layer's gradient is lost with it, too.
        assert one.effect.after["underflow_fraction"] > 0.5


class Loud(nn.Module):
    """Its second layer answers in hundreds of thousands, which the third brings down again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 10)
        with torch.no_grad():
            self.second.weight.mul_(3e5)

    def forward(self, x: Tensor) -> Tensor:
        loud = torch.relu(self.second(torch.relu(self.first(x))))
        logits: Tensor = self.head(self.norm(loud))
        return logits


def test_what_overflows_float16_is_named(prober: ZygoteProber, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plan = {**SMALL, "trial_steps": 0}
    report = file_report(prober, tmp_path, Loud(), 64, precision="float16", **plan)
    assert report.diagnosis.verdict is Verdict.UNHEALTHY
    found = finding(report, "nonfinite_values")
    assert found.detail.startswith("NaN or infinity first appears in second.")
    assert list(found.evidence["keep_in_float32"]) == ["second"]
    assert "second overflows float16" in found.causes[0]
    assert "in float32 its output is finite" in found.causes[0]
    assert "bfloat16" in found.detail
    other = file_report(prober, tmp_path, Loud(), 64, precision="bfloat16", **plan)
    assert not any(one.code == "nonfinite_values" for one in other.diagnosis.findings)


def test_pure_float16_is_judged_by_a_training_in_it(prober: ZygoteProber) -> None:
    spec = mlp_spec(3, 64, "ReLU", HE)
    pure = spec_report(prober, spec, **SMALL, precision="pure_float16", trial_steps=60)
    # Adam divides by the square root of what float16 rounds to zero, plus an eps that is zero.
    assert pure.diagnosis.decided_by == "trial"
    assert pure.diagnosis.verdict is Verdict.AT_RISK
    assert "eps of 1e-8 is 0" in finding(pure, "lost_updates").causes[0]
    assert pure.trial is not None
    learned = {run.optimizer: run.learned for run in pure.trial.runs}
    assert learned == {"sgd": True, "adam": False}
    mixed = spec_report(
        prober,
        spec,
        **SMALL,
        precision="float16",
        trial_steps=60,
    )
    assert mixed.diagnosis.verdict is Verdict.HEALTHY


def test_gradients_that_overflow_are_scaled_down(prober: ZygoteProber, tmp_path: Path) -> None:
    class Steep(nn.Module):
        """Its loss is steep: the answer is taken times a large number, in float32."""

        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(
                3, 64, nn.ReLU, init=lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")
            )

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.body(x)
            return logits.float() * 3e4

    torch.manual_seed(0)
    report = file_report(
        prober, tmp_path, Steep(), 64, **SMALL, precision="float16", trial_steps=0, loss="mse"
    )
    found = finding(report, "half_precision_overflow")
    assert found.evidence["loss_scale"] < 1.0
    assert found.evidence["largest_gradient"] > found.evidence["largest_float16"]
    assert not any(one.code == "nonfinite_values" for one in report.diagnosis.findings)
    (scale,) = (one for one in report.recommendations if one.kind == "loss_scaling")
    assert scale.effect is not None
    assert scale.effect.verified is True
    assert (scale.effect.before["overflows"], scale.effect.after["overflows"]) == (True, False)
