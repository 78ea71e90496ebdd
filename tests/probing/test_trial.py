"""The short training: optimizers against torch.optim, and what learns and what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from service.diagnosis.signs import LONGEST
from service.domain.errors import NotDifferentiable
from service.domain.measurements import Trial
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.probing import trial
from service.probing.batches import draw, generator_for
from service.probing.losses import choose
from service.probing.optimizers import updates

PLAN = ProbePlan(trial_steps=100)


@dataclass
class Trained:
    """An nn.Module as the trial sees it."""

    module: nn.Module
    initial: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.initial = {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    @property
    def parameters(self) -> dict[str, Tensor]:
        return dict(self.module.named_parameters())

    @property
    def buffers(self) -> dict[str, Tensor]:
        return dict(self.module.named_buffers())

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.module(*inputs)
        return output

    def reset(self) -> None:
        self.module.load_state_dict(self.initial)


def try_out(
    build: Callable[[], nn.Module],
    plan: ProbePlan = PLAN,
    inputs: tuple[InputPlan, ...] = (InputPlan((64,)),),
    output_op: str | None = None,
    rates: Mapping[str, float] | None = None,
) -> Trial:
    torch.manual_seed(0)
    model = Trained(build())
    loss = choose(plan.loss, model.forward(*draw(inputs, 64, generator_for(0))), output_op)
    model.reset()
    return trial.run(model, plan, inputs, loss, batch_size=64, rates=rates)


def learned(of: Trial) -> dict[str, bool]:
    return {
        name: any(run.learned for run in of.runs if run.optimizer == name)
        for name in ("sgd", "adam")
    }


def mlp(depth: int, activation: type[nn.Module], outputs: int = 10) -> nn.Sequential:
    hidden = [m for _ in range(depth) for m in (nn.Linear(64, 64), activation())]
    return nn.Sequential(*hidden, nn.Linear(64, outputs))


BOTH = {"sgd": True, "adam": True}
NEITHER = {"sgd": False, "adam": False}


def test_shallow_relu_learns() -> None:
    assert learned(try_out(lambda: mlp(2, nn.ReLU))) == BOTH


def test_deep_sigmoid_does_not() -> None:
    seen = try_out(lambda: mlp(12, nn.Sigmoid))
    assert learned(seen) == NEITHER
    assert all(run.progress < 0.2 for run in seen.runs)


def test_same_seed_same_numbers() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.Dropout(), nn.ReLU(), nn.Linear(32, 10))

    first, again = try_out(build), try_out(build)
    assert first == again
    other = try_out(build, replace(PLAN, seed=1))
    assert other.runs[0].loss != first.runs[0].loss


def test_model_is_put_back() -> None:
    model = Trained(nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)))
    inputs = (InputPlan((64,)),)
    loss = choose("auto", torch.zeros(8, 10), None)
    trial.run(model, replace(PLAN, trial_steps=5), inputs, loss, batch_size=8)
    for name, value in model.module.state_dict().items():
        assert value.equal(model.initial[name]), name


TORCH_OPTIMIZERS: list[tuple[OptimizerPlan, Callable[..., torch.optim.Optimizer]]] = [
    (OptimizerPlan("sgd", 0.05), torch.optim.SGD),
    (OptimizerPlan("sgd", 0.05, momentum=0.9, weight_decay=0.01), torch.optim.SGD),
    (OptimizerPlan("adam", 1e-2, weight_decay=0.01), torch.optim.Adam),
    (OptimizerPlan("adamw", 1e-2, weight_decay=0.1), torch.optim.AdamW),
    (OptimizerPlan("sgd", 0.05, clip_norm=0.1), torch.optim.SGD),
]


@pytest.mark.parametrize(("plan", "optimizer"), TORCH_OPTIMIZERS)
def test_steps_are_torch_optims(
    plan: OptimizerPlan, optimizer: Callable[..., torch.optim.Optimizer]
) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(5, 3, generator=generator), torch.randn(5, generator=generator)]
    theirs = [p.clone().requires_grad_() for p in ours]
    extra = {"momentum": plan.momentum} if plan.name == "sgd" else {}
    reference = optimizer(theirs, lr=plan.lr, weight_decay=plan.weight_decay, **extra)
    update = updates(ours, plan)
    for _ in range(4):
        gradients = [torch.randn(p.shape, generator=generator) for p in ours]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone()
        if plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(theirs, plan.clip_norm)
        reference.step()
        update(gradients)
    for parameter, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(parameter, expected.detach())


def test_named_optimizer_is_the_only_one() -> None:
    plan = replace(PLAN, optimizer=OptimizerPlan("adam", 3e-3), trial_steps=7)
    seen = try_out(lambda: mlp(2, nn.ReLU), plan)
    assert [(run.optimizer, run.lr) for run in seen.runs] == [("adam", 3e-3)]
    assert len(seen.runs[0].loss) == len(seen.runs[0].grad_norm) == 7


def test_an_optimizer_is_tried_at_one_rate_where_that_is_asked() -> None:
    every = try_out(lambda: mlp(12, nn.Sigmoid))
    asked = {"sgd": 0.1, "adam": 1e-3}
    seen = try_out(lambda: mlp(12, nn.Sigmoid), rates=asked)
    assert {run.optimizer: run.lr for run in seen.runs} == asked
    # What else was tried before it changes nothing.
    assert [run for run in every.runs if asked[run.optimizer] == run.lr] == list(seen.runs)


def test_a_named_optimizer_comes_before_rates_that_are_asked() -> None:
    plan = replace(PLAN, optimizer=OptimizerPlan("adam", 3e-3), trial_steps=7)
    seen = try_out(lambda: mlp(2, nn.ReLU), plan, rates={"sgd": 0.1})
    assert [(run.optimizer, run.lr) for run in seen.runs] == [("adam", 3e-3)]


def test_no_steps_no_losses() -> None:
    seen = try_out(lambda: mlp(1, nn.ReLU), replace(PLAN, trial_steps=0))
    assert all(not run.learned and run.loss == () for run in seen.runs)


class PerPosition(nn.Module):
    """Tokens in, scores of a vocabulary out at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 32)
        self.mix = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 1000)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.head(self.mix(self.embedding(tokens))[0])
        return output


IMAGE = InputPlan((3, 16, 16))


@pytest.mark.parametrize(
    ("build", "plan", "inputs", "output_op"),
    [
        (lambda: mlp(2, nn.ReLU, 1), PLAN, InputPlan((64,)), None),
        (lambda: mlp(2, nn.ReLU, 2), PLAN, InputPlan((64,)), None),
        (lambda: mlp(2, nn.ReLU), replace(PLAN, loss="smooth_l1"), InputPlan((64,)), None),
        (lambda: mlp(2, nn.ReLU), replace(PLAN, loss="bce_with_logits"), InputPlan((64,)), None),
        (lambda: mlp(2, nn.ReLU).append(nn.Softmax(1)), PLAN, InputPlan((64,)), "softmax"),
        (lambda: mlp(2, nn.ReLU, 1).append(nn.Sigmoid()), PLAN, InputPlan((64,)), "sigmoid"),
        (lambda: mlp(2, nn.ReLU), replace(PLAN, loss="output_mean_square"), InputPlan((64,)), None),
        (
            lambda: nn.Sequential(
                nn.Conv2d(3, 8, 3, 2),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(8, 4),
            ),
            PLAN,
            IMAGE,
            None,
        ),
        (PerPosition, PLAN, InputPlan((16,), dtype="int64", high=1000), None),
    ],
)
def test_healthy_models_of_every_output_learn(
    build: Callable[[], nn.Module], plan: ProbePlan, inputs: InputPlan, output_op: str | None
) -> None:
    assert learned(try_out(build, plan, (inputs,), output_op)) == BOTH


def test_an_image_is_asked_for_an_image() -> None:
    def build() -> nn.Module:
        down = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()]
        up = [nn.ConvTranspose2d(16, 16, 2, 2), nn.ReLU(), nn.Conv2d(16, 2, 1)]
        return nn.Sequential(*down, *up)

    seen = try_out(build, inputs=(IMAGE,))
    assert (seen.task, learned(seen)) == ("code_regression", BOTH)


def test_units_that_stay_alike_do_not_learn() -> None:
    def build() -> nn.Module:
        net = mlp(1, nn.Tanh)
        for parameter in net.parameters():
            nn.init.constant_(parameter, 0.02)
        return net

    seen = try_out(build)
    assert learned(seen) == NEITHER
    assert max(run.progress for run in seen.runs) < 0.33


def rates(seen: Trial, optimizer: str) -> list[float]:
    return [run.lr for run in seen.runs if run.optimizer == optimizer]


def test_rates_rise_from_chance_and_sgd_is_given_up() -> None:
    seen = try_out(lambda: mlp(12, nn.Sigmoid))
    assert rates(seen, "sgd") == [0.03, 0.3, 0.1]
    lengths = {run.optimizer: len(run.loss) for run in seen.runs}
    assert lengths == {"sgd": trial.PATIENCE["sgd"], "adam": seen.steps}


def test_rates_fall_after_a_blow_up() -> None:
    def build() -> nn.Module:
        net = mlp(12, nn.ReLU)
        for module in net:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.5)
        return net

    seen = try_out(build)
    assert rates(seen, "sgd") == [0.03, 0.003]
    assert seen.runs[0].loss[-1] is None


def test_learning_ends_the_search() -> None:
    seen = try_out(lambda: mlp(2, nn.ReLU))
    assert (rates(seen, "sgd"), rates(seen, "adam")) == ([0.03], [3e-3])
    for run in seen.runs:
        assert len(run.loss) < PLAN.trial_steps
        assert run.progress >= trial.SOLVED
        assert run.accuracy == pytest.approx(0.1 + 0.9 * run.progress)


def test_output_without_parameters_is_an_error() -> None:
    model = Trained(nn.Sequential(nn.ReLU()))
    loss = choose("auto", torch.zeros(8, 10), None)
    with pytest.raises(NotDifferentiable):
        trial.run(model, PLAN, (InputPlan((10,)),), loss, batch_size=8)


def test_the_signs_know_how_long_a_run_may_be() -> None:
    """The diagnosis cannot import the trial: two places say the same."""
    assert {name: ladder.stamina for name, ladder in trial.LADDERS.items()} == LONGEST
