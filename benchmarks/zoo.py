"""A healthy zoo: networks that the field trains every day, at their usual initializations.

    python -m benchmarks.zoo [--only NAME …] [--jobs N] [--out docs/zoo.md]

Each goes through the real pipeline as TorchScript, saved and opened again, at its initialization
and after 10, 50 and 100 % of a short training on the 8×8 digits (Adam at 1e-3). None may come out
unhealthy; the table shows every warning, for they are false alarms as well.
"""

from __future__ import annotations

import argparse
import io
import math
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.score import BUDGET_SECONDS, InProcessSession, unwatched
from service.domain.findings import Severity
from service.domain.model_source import ArtifactSource, ModelSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.probing import losses
from service.probing.session import Session

STEPS = 60
"""Length of the short training, enough for most of them to leave chance well behind."""
STAGES = (0.0, 0.1, 0.5, 1.0)
"""Shares of it after which a network is judged."""
BATCH = 32
WIDTH = 16
TOKENS = 9
"""Shades of a pixel when read as a word."""
WORDS = 32
CLASSES = 10


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, given: int, wanted: int, stride: int, *, zero: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, wanted, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wanted)
        self.conv2 = nn.Conv2d(wanted, wanted, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wanted)
        self.short = (
            nn.Identity()
            if stride == 1 and given == wanted
            else nn.Sequential(
                nn.Conv2d(given, wanted, 1, stride, bias=False), nn.BatchNorm2d(wanted)
            )
        )
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if zero:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.short(x))


def resnet(*, zero: bool) -> nn.Module:
    """ResNet-18: four stages of two blocks; `zero`: zero-init residual (Goyal et al. 2017)."""
    stages, given = [], WIDTH
    for number, wanted in enumerate((WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH)):
        stride = 2 if number in (1, 2) else 1
        stages += [Residual(given, wanted, stride, zero=zero)]
        stages += [Residual(wanted, wanted, 1, zero=zero)]
        given = wanted
    stem = [nn.Conv2d(1, WIDTH, 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, CLASSES)]
    return nn.Sequential(*stem, *stages, *pool)


def vgg() -> nn.Module:
    """VGG-11 with batch normalization, torchvision's initialization."""
    layers: list[nn.Module] = []
    given = 1
    for wanted in (16, 0, 32, 0, 64, 64, 0, 64, 64):
        if not wanted:
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(given, wanted, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias) if conv.bias is not None else None
        layers += [conv, nn.BatchNorm2d(wanted), nn.ReLU()]
        given = wanted
    hidden, head = nn.Linear(64 * 4, 64), nn.Linear(64, CLASSES)
    for linear in (hidden, head):
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)
    return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(0.5), head)


class Attention(nn.Module):
    """Multi-head self-attention out of plain operations."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        y: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return y


class Block(nn.Module):
    """A transformer block, normalized before (GPT-2, ViT) or after (BERT) each branch."""

    def __init__(self, width: int, *, pre: bool, causal: bool) -> None:
        super().__init__()
        self.pre = pre
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, 4, causal=causal)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)

    def mix(self, x: Tensor) -> Tensor:
        """The feed-forward branch."""
        y: Tensor = self.drop(self.fc2(functional.gelu(self.fc1(x))))
        return y

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            x = x + self.drop(self.attention(self.norm1(x)))
            return x + self.mix(self.norm2(x))
        x = self.norm1(x + self.drop(self.attention(x)))
        y: Tensor = self.norm2(x + self.mix(x))
        return y


class Language(nn.Module):
    """Words in, a distribution over words at each place out."""

    def __init__(self, *, gpt: bool, width: int = 32, blocks: int = 6) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(TOKENS, width), nn.Embedding(WORDS, width)
        self.blocks = nn.ModuleList(Block(width, pre=gpt, causal=gpt) for _ in range(blocks))
        self.embedded = nn.Identity() if gpt else nn.LayerNorm(width)
        self.norm = nn.LayerNorm(width) if gpt else nn.Identity()
        self.head = nn.Linear(width, TOKENS, bias=False)
        self.register_buffer("index", torch.arange(WORDS))
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                deep = gpt and name.endswith(("proj.weight", "fc2.weight"))
                # GPT-2 scales what is added to the stream by 1/√(2·blocks).
                nn.init.normal_(parameter, 0, 0.02 / (math.sqrt(2 * blocks) if deep else 1.0))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if gpt:
            self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedded(self.words(x) + self.places(self.index))
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


class ViT(nn.Module):
    """Patches, a class token, pre-normalized blocks (timm's initialization, std .02)."""

    def __init__(self, width: int = 32, blocks: int = 6, *, zero_head: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, pre=True, causal=False) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if zero_head:
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.patch(x).flatten(2).transpose(1, 2)
        token = self.token.expand(patches.shape[0], -1, -1)
        hidden = self.blocks(torch.cat([token, patches], 1) + self.places)
        logits: Tensor = self.head(self.norm(hidden)[:, 0])
        return logits


class ConvNeXtBlock(nn.Module):
    """Depthwise 7×7, LayerNorm, inverted bottleneck, LayerScale 1e-6 (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.fc2(functional.gelu(self.fc1(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Two stages of three blocks; std .02 truncated normals."""
    net = nn.Sequential(
        nn.Conv2d(1, WIDTH, 2, 2),
        nn.GroupNorm(1, WIDTH),
        *(ConvNeXtBlock(WIDTH) for _ in range(3)),
        nn.GroupNorm(1, WIDTH),
        nn.Conv2d(WIDTH, 2 * WIDTH, 2, 2),
        *(ConvNeXtBlock(2 * WIDTH) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(2 * WIDTH),
        nn.Linear(2 * WIDTH, CLASSES),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


class Inverted(nn.Module):
    """MobileNetV2's inverted residual (Sandler et al. 2018)."""

    def __init__(self, given: int, wanted: int, stride: int) -> None:
        super().__init__()
        wide = 4 * given
        self.adds = stride == 1 and given == wanted
        self.body = nn.Sequential(
            nn.Conv2d(given, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wanted, 1, bias=False),
            nn.BatchNorm2d(wanted),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def mobilenet() -> nn.Module:
    """A short MobileNetV2."""
    plan = ((8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1), (16, 16, 1))
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        *(Inverted(*sizes) for sizes in plan),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, CLASSES),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
    return net


class UNet(nn.Module):
    """Down, up, and the shortcuts concatenated (Ronneberger et al. 2015)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.down1, self.down2 = self.pair(1, 8), self.pair(8, 16)
        self.middle = self.pair(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join2, self.join1 = self.pair(32, 16), self.pair(16, 8)
        self.head = nn.Conv2d(8, outputs, 1)

    @staticmethod
    def pair(given: int, wanted: int) -> nn.Sequential:
        """Two convolutions with batch normalization."""
        return nn.Sequential(
            nn.Conv2d(given, wanted, 3, padding=1),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
            nn.Conv2d(wanted, wanted, 3, padding=1),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        low = self.middle(functional.max_pool2d(second, 2))
        high = self.join2(torch.cat([second, self.up2(low)], 1))
        y: Tensor = self.head(self.join1(torch.cat([first, self.up1(high)], 1)))
        return y


class Recurrent(nn.Module):
    """The last step of a recurrent network, and a head."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.rnn = cell(8, 32, 2, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.rnn(x)
        y: Tensor = self.head(hidden[:, -1])
        return y


class MixerBlock(nn.Module):
    """Mixes places, then features (Tolstikhin et al. 2021)."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(nn.Linear(places, 32), nn.GELU(), nn.Linear(32, places))
        self.within = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        y: Tensor = x + self.within(self.norm2(x))
        return y


class Mixer(nn.Module):
    """MLP-Mixer over the rows of the image; its head starts at zero, as in the paper."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.blocks = nn.Sequential(*(MixerBlock(8, width) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.blocks(self.embed(x))).mean(1))
        return y


class LoRA(nn.Module):
    """A linear layer with a low-rank correction that starts at zero (Hu et al. 2022)."""

    def __init__(self, given: int, wanted: int) -> None:
        super().__init__()
        self.base = nn.Linear(given, wanted)
        self.base.requires_grad_(requires_grad=False)
        self.a = nn.Parameter(torch.empty(4, given))
        self.b = nn.Parameter(torch.zeros(wanted, 4))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + functional.linear(functional.linear(x, self.a), self.b)
        return y


def lora() -> nn.Module:
    """Corrections to the hidden layers of a frozen perceptron, and a new head."""
    hidden = [LoRA(64, 64), nn.ReLU(), LoRA(64, 64), nn.ReLU(), LoRA(64, 64), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(64, CLASSES))


def regression() -> nn.Module:
    """A small perceptron with one real output."""
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )


def autoencoder() -> nn.Module:
    """64 numbers through 8 and back."""
    encoder = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)]
    return nn.Sequential(*encoder, nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))


def perceptron() -> nn.Module:
    """Three hidden layers at PyTorch's default."""
    layers: list[nn.Module] = []
    for given in (64, 64, 64):
        layers += [nn.Linear(given, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, CLASSES))


def segmentation() -> nn.Module:
    """Convolutions that keep the image's size, three classes a pixel."""
    layers: list[nn.Module] = []
    given = 1
    for dilation in (1, 2, 4, 1):
        layers += [
            nn.Conv2d(given, WIDTH, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(4, WIDTH),
            nn.SiLU(),
        ]
        given = WIDTH
    return nn.Sequential(*layers, nn.Conv2d(given, 3, 1))


@cache
def digits() -> tuple[Tensor, Tensor]:
    """(pixels 0 … 16 as floats (N, 64), digit (N,))."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)


def standardized(pixels: Tensor) -> Tensor:
    """Mean 0, variance 1 over all of them."""
    every, _ = digits()
    return (pixels - every.mean()) / every.std()


Rows = tuple[Tensor, Tensor]
"""Inputs and targets of a batch."""


def flat(pixels: Tensor, digit: Tensor) -> Rows:
    """64 numbers → digit."""
    return standardized(pixels), digit


def image(pixels: Tensor, digit: Tensor) -> Rows:
    """1×16×16 → digit."""
    small = standardized(pixels).view(-1, 1, 8, 8)
    return functional.interpolate(small, size=16, mode="bilinear"), digit


def rows(pixels: Tensor, digit: Tensor) -> Rows:
    """8 steps of 8 → digit."""
    return standardized(pixels).view(-1, 8, 8), digit


def words(pixels: Tensor, _digit: Tensor) -> Rows:
    """Shades, and the next shade at each place."""
    shades = (pixels // 2).long()[:, 16:]
    return shades[:, :WORDS], shades[:, 1 : WORDS + 1]


def amount(pixels: Tensor, _digit: Tensor) -> Rows:
    """64 numbers → how dark they are together, standardized."""
    x = standardized(pixels)
    sums = x.mean(1, keepdim=True)
    return x, (sums - sums.mean()) / sums.std()


def itself(pixels: Tensor, _digit: Tensor) -> Rows:
    """64 numbers → the same."""
    x = standardized(pixels)
    return x, x


def ink(pixels: Tensor, digit: Tensor) -> Rows:
    """1×16×16 → paper, edge or ink at each pixel."""
    x, _ = image(pixels, digit)
    return x, (x > -0.5).long()[:, 0] + (x > 0.8).long()[:, 0]


FLAT = InputPlan((64,))
IMAGE = InputPlan((1, 16, 16))
SEQUENCE = InputPlan((8, 8))
TEXT = InputPlan((WORDS,), "int64", high=TOKENS)


@dataclass(frozen=True, slots=True)
class Animal:
    """One network of the zoo."""

    build: Callable[[], nn.Module]
    """At its usual initialization."""
    inputs: InputPlan
    """What it takes."""
    task: Callable[[Tensor, Tensor], Rows]
    """What it is trained on: (pixels, digit) → inputs and targets."""
    loss: str = "cross_entropy"
    """A name of service.probing.losses."""


ZOO: Mapping[str, Animal] = MappingProxyType(
    {
        "perceptron": Animal(perceptron, FLAT, flat),
        "resnet": Animal(lambda: resnet(zero=False), IMAGE, image),
        "resnet_zero": Animal(lambda: resnet(zero=True), IMAGE, image),
        "vgg_bn": Animal(vgg, IMAGE, image),
        "vit": Animal(ViT, IMAGE, image),
        "vit_zero_head": Animal(lambda: ViT(zero_head=True), IMAGE, image),
        "bert": Animal(lambda: Language(gpt=False), TEXT, words),
        "gpt2": Animal(lambda: Language(gpt=True), TEXT, words),
        "convnext": Animal(convnext, IMAGE, image),
        "mobilenet": Animal(mobilenet, IMAGE, image),
        "unet": Animal(lambda: UNet(1), IMAGE, lambda x, y: (image(x, y)[0],) * 2, "mse"),
        "unet_segmentation": Animal(lambda: UNet(3), IMAGE, ink),
        "segmentation": Animal(segmentation, IMAGE, ink),
        "lstm": Animal(lambda: Recurrent(nn.LSTM), SEQUENCE, rows),
        "gru": Animal(lambda: Recurrent(nn.GRU), SEQUENCE, rows),
        "mixer": Animal(Mixer, SEQUENCE, rows),
        "regression": Animal(regression, FLAT, amount, "mse"),
        "autoencoder": Animal(autoencoder, FLAT, itself, "mse"),
        "lora": Animal(lora, FLAT, flat),
    }
)
"""By name."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One network, judged at one stage of its training."""

    name: str
    stage: float
    """Share of the training that is behind it, 0 … 1."""
    loss: float
    """Training loss there."""
    verdict: str
    confidence: float
    errors: tuple[str, ...] = ()
    """Codes of findings of severity error."""
    warnings: tuple[str, ...] = ()
    """Codes of warnings."""
    summary: str = ""


class SavedModel:
    """Opens one TorchScript file, in this process: for models of our own alone."""

    def __init__(self, saved: bytes) -> None:
        self._saved = saved

    @contextmanager
    def open(self, source: ModelSource, plan: ProbePlan) -> Iterator[InProcessSession]:
        """Load and record the model."""
        assert isinstance(source, ArtifactSource)
        yield InProcessSession(Session.open(plan, None, io.BytesIO(self._saved)))


def saved(module: nn.Module, example: Tensor) -> bytes:
    """The module as TorchScript, traced in train mode."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # torch.jit is deprecated for writing; people's files are there all the same.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, (example,), check_trace=False)
        torch.jit.save(traced, file)
    return file.getvalue()


def judged(module: nn.Module, animal: Animal, plan: ProbePlan) -> Report:
    """The whole pipeline on a saved copy."""
    pixels, digit = digits()
    example, _ = animal.task(pixels[:BATCH], digit[:BATCH])
    model = ModelRequest("artifact", artifact_id="sha256:" + "0" * 64)
    source = ArtifactSource("sha256:" + "0" * 64, "torchscript")
    request = AnalysisRequest(model, plan)
    return analyse(request, source, SavedModel(saved(module, example)), unwatched)


def trained(module: nn.Module, animal: Animal, steps: int, generator: torch.Generator) -> float:
    """Train in place for `steps` steps; returns the loss of a batch at the end."""
    pixels, digit = digits()
    wanted = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(wanted, lr=1e-3)
    value = torch.tensor(math.nan)
    for step in range(steps + 1):
        chosen = torch.randint(0, len(pixels), (BATCH,), generator=generator)
        inputs, target = animal.task(pixels[chosen], digit[chosen])
        output = module(inputs)
        value = losses.named(animal.loss, output).compute(output, target)
        if step < steps:
            optimizer.zero_grad()
            torch.autograd.backward(value)
            optimizer.step()
    return value.item()


def visit(name: str, stages: tuple[float, ...] = STAGES, *, trial_steps: int = 100) -> list[Visit]:
    """Judge one network at each stage of its training."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    animal = ZOO[name]
    module = animal.build().train()
    generator = torch.Generator().manual_seed(0)
    plan = ProbePlan(
        inputs=(animal.inputs,),
        loss=animal.loss,
        trial_steps=trial_steps,
        budget_seconds=BUDGET_SECONDS,
    )
    visits, done = [], 0
    for stage in stages:
        steps = round(stage * STEPS)
        loss = trained(module, animal, steps - done, generator)
        done = steps
        found = judged(module, animal, plan).diagnosis
        codes: dict[Severity, tuple[str, ...]] = {
            severity: tuple(f.code for f in found.findings if f.severity is severity)
            for severity in Severity
        }
        visits.append(
            Visit(
                name,
                stage,
                loss,
                found.verdict.value,
                found.confidence,
                codes[Severity.ERROR],
                codes[Severity.WARNING],
                found.summary,
            )
        )
    return visits


def row(seen: Visit) -> str:
    """One line of the table."""
    told = ", ".join([*(f"ERROR {code}" for code in seen.errors), *seen.warnings]) or "–"
    return (
        f"| {seen.name} | {seen.stage:.0%} | {seen.loss:.2f} | {seen.verdict} "
        f"{seen.confidence:.2f} | {told} |"
    )


def table(visits: list[Visit]) -> str:
    """All visits, and what they come to."""
    head = "| network | trained | loss | verdict | findings |\n|---|---|---|---|---|"
    unhealthy = sum(seen.verdict == "unhealthy" for seen in visits)
    errors = sum(bool(seen.errors) for seen in visits)
    told = [len(seen.warnings) for seen in visits]
    last = (
        f"{len(visits)} visits: {unhealthy} unhealthy, {errors} with an error, "
        f"{sum(seen.verdict == 'at_risk' for seen in visits)} at_risk; warnings: median "
        f"{median(told):g}, most {max(told)}."
    )
    return "\n".join([head, *map(row, visits), "", last])


def page(visits: list[Visit]) -> str:
    """docs/zoo.md."""
    return "\n".join(
        [
            "# The healthy zoo",
            "",
            "Networks that the field trains every day, small, at their usual initializations, "
            "saved as TorchScript and judged by the real pipeline before and during a training of "
            f"{STEPS} steps on the 8×8 digits (Adam, 1e-3). Written by `python -m benchmarks.zoo "
            f"--out docs/zoo.md` with torch {torch.__version__} on {platform.machine()}.",
            "",
            table(visits),
            "",
        ]
    )


def main() -> None:
    """Visit them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        visits = [seen for found in pool.map(visit, arguments.only) for seen in found]
    if arguments.out is not None:
        arguments.out.write_text(page(visits), encoding="utf-8")
    print(table(visits))
    for seen in visits:
        if seen.verdict != "healthy":
            print(f"{seen.name} {seen.stage:.0%}: {seen.summary}")


if __name__ == "__main__":
    main()
