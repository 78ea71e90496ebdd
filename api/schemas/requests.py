"""What a client sends. Unknown fields and values of the wrong type are refused, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from service.domain.findings import Severity
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.domain.request import (
    ALL_KINDS,
    AnalysisRequest,
    BaselineRequest,
    IgnoreRule,
    ModelRequest,
)

NOT_YET = "not_yet_supported"

Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0)]
LabelKey = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^:]*$")]
LabelText = Annotated[str, Field(max_length=256)]
ArtifactId = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class Wire(BaseModel):
    """Strict and frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


def _refused(what: str) -> PydanticCustomError:
    return PydanticCustomError(NOT_YET, "{what} is not yet supported", {"what": what})


def not_yet(*values: object) -> AfterValidator:
    """Known words whose part is not built: 422 rather than ignored."""

    def refuse(value: Any) -> Any:
        if value in values:
            raise _refused(str(value))
        return value

    return AfterValidator(refuse)


class SpecInputIn(Wire):
    """What one sample looks like."""

    shape: list[Size] = Field(max_length=8)
    """Sizes of one sample, each ≥ 1, without the batch dimension; at most 8, none: a scalar."""
    dtype: Literal["float32", "int64", "int32"] = "float32"
    """A torch dtype."""
    high: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Integers are drawn from 0 … high-1; default: from the first Embedding."""


class NamedInputIn(SpecInputIn):
    """One of several inputs."""

    name: str
    """What `inputs` of layers call it."""


class InitIn(Wire):
    """One call of torch.nn.init."""

    name: str
    """A function of torch.nn.init, as kaiming_normal_, or forget_gate_."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments."""


class ParametrizationIn(Wire):
    """A weight computed from other parameters."""

    name: Literal["weight_norm", "spectral_norm"]
    """A function of torch.nn.utils.parametrizations."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments."""


class LayerIn(Wire):
    """A layer (`type`), another use of one (`shares`) or a group of layers (`layers`)."""

    name: str = ""
    """Default: layer{index}. Names inside a repeated group become group.0.name, group.1.name …"""
    type: str = ""
    """A class name of torch.nn, or a type that torch.nn lacks: Add, Multiply, Concat, MatMul,
    LastStep, Scale, Parameter, NoisyReLU, Exponential, Squareplus, SparsePlus."""
    args: dict[str, Any] = Field(default_factory=dict)
    """The constructor's own arguments; what torch can infer may be left out."""
    init: dict[str, InitIn] = Field(default_factory=dict)
    """Initialization by parameter name; the default is PyTorch's own."""
    inputs: list[str] = Field(default_factory=list)
    """Names of earlier layers, or of inputs ("input" where there is one); default: the layer above,
    for a Parameter what comes in."""
    forward: dict[str, bool] = Field(default_factory=dict)
    """What its forward is called with besides the inputs: is_causal of attention and encoders,
    tgt_is_causal of decoders, src_is_causal and tgt_is_causal of a Transformer."""
    parametrizations: dict[str, ParametrizationIn] = Field(default_factory=dict)
    """By parameter of a linear, convolutional or embedding layer."""
    shares: str = ""
    """Name of an earlier layer whose module, with its parameters, is used once more on other
    inputs; no type, args or init are given then."""
    repeat: int = Field(default=1, ge=1)
    """How many times the group stands one after another."""
    layers: list[LayerIn] = Field(default_factory=list)
    """The layers of a group."""


class SpecIn(Wire):
    """An architecture, layer by layer; weights are drawn afresh for every seed, unless given."""

    kind: Literal["spec"]
    input: SpecInputIn | Annotated[list[NamedInputIn], Field(min_length=1, max_length=16)]
    """What one sample looks like; a list for a network of several inputs."""
    layers: list[LayerIn] = Field(min_length=1)
    """From the input to the output."""
    weights: ArtifactId | None = None
    """Artifact id of a safetensors file with a value for every parameter, named as in
    `state_dict()`: layer.parameter, inside a repeated group group.0.layer.parameter. They take the
    place of every initialization, and all seeds measure them. Buffers (running_mean …) may be left
    out."""


class ArtifactIn(Wire):
    """A file stored before by `PUT /v1/artifacts`."""

    kind: Literal["artifact"]
    id: ArtifactId
    """"sha256:" and 64 hexadecimal digits."""


class KerasIn(Wire):
    """A Keras architecture (Keras 2 or 3), translated to a spec; weights are drawn afresh."""

    kind: Literal["keras"]
    config: dict[str, Any]
    """What `json.loads(model.to_json())` gives: a Sequential or functional model with one input and
    one output. What has no place in a spec is 422 with the layer, or said in `notes`."""


def kind_of(model: Any) -> str | None:
    """`kind` of a model, as submitted or as read; None when it has none."""
    kind = model.get("kind") if isinstance(model, Mapping) else getattr(model, "kind", None)
    return kind if isinstance(kind, str) else None


ModelIn = Annotated[
    Annotated[SpecIn, Tag("spec")]
    | Annotated[ArtifactIn, Tag("artifact")]
    | Annotated[KerasIn, Tag("keras")],
    Discriminator(
        kind_of,
        custom_error_type="model_kind",
        custom_error_message="must be an object whose kind is spec, artifact or keras",
    ),
]


class InputIn(Wire):
    """One input of the model."""

    shape: list[Size] = Field(max_length=8)
    """Sizes of one sample, each ≥ 1, without the batch dimension; at most 8, none: a scalar."""
    dtype: Annotated[
        Literal["float32", "float64", "bfloat16", "float16", "int64", "int32", "bool"],
        not_yet("bfloat16", "float16"),
    ] = "float32"
    """A torch dtype; bfloat16 and float16 are not yet supported."""
    distribution: Literal["normal", "uniform", "zeros", "ones"] = "normal"
    """normal (0, 1), uniform (0, 1), zeros or ones; integers and bool are drawn uniformly."""
    high: int | None = Field(default=None, ge=1, le=2**31 - 1, validate_default=True)
    """Integers are drawn from 0 … high-1; required for integers, refused for others."""

    @field_validator("high")
    @classmethod
    def _high_goes_with_integers(cls, high: int | None, info: ValidationInfo) -> int | None:
        dtype = info.data.get("dtype")
        if dtype in ("int64", "int32") and high is None:
            raise PydanticCustomError(
                "high", "required for {dtype}: one more than the largest index", {"dtype": dtype}
            )
        if dtype not in ("int64", "int32", None) and high is not None:
            raise PydanticCustomError("high", "only for integers, not {dtype}", {"dtype": dtype})
        return high

    def to_domain(self) -> InputPlan:
        """The same in the engine's words."""
        return InputPlan(tuple(self.shape), self.dtype, self.distribution, self.high)


class OptimizerIn(Wire):
    """The optimizer that the verdict is for, in torch.optim's words."""

    name: Literal["sgd", "adam", "adamw"]
    """sgd, adam or adamw."""
    lr: Positive
    """Learning rate, > 0."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """SGD's momentum, 0 … 1."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty (adamw: decoupled), ≥ 0."""
    clip_norm: Positive | None = None
    """max_norm of torch.nn.utils.clip_grad_norm_, > 0; null: no clipping."""

    def to_domain(self) -> OptimizerPlan:
        """The same in the engine's words."""
        return OptimizerPlan(self.name, self.lr, self.momentum, self.weight_decay, self.clip_norm)


class ProbeIn(Wire):
    """How the model is probed."""

    inputs: list[InputIn] = Field(default_factory=list, max_length=16)
    """One entry per model input; taken from a spec or an exported program, seen from `data`, else
    needed for TorchScript."""
    data: ArtifactId | None = None
    """Artifact id of real samples to draw batches from, instead of noise: a .safetensors or .npz
    file with `x` (or `x0`, `x1`, … for several inputs), a row per sample, and perhaps `y`, the
    answer to each row; nothing else. Or send the file as the part `data` of a form."""
    batch_size: Annotated[
        int | Literal["auto"],
        WithJsonSchema(
            {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 65536}]}
        ),
    ] = "auto"
    """Samples per batch, 1 … 65536; auto: 64, or what fits time and memory."""
    batches: int = Field(default=4, ge=1, le=64)
    """Batches per seed, 1 … 64; several give each figure its spread."""
    seeds: int = Field(default=3, ge=1, le=32)
    """Spec: fresh initializations; artifact: batches drawn afresh. 1 … 32."""
    loss: Literal[
        "auto",
        "cross_entropy",
        "nll",
        "nll_of_softmax",
        "mse",
        "l1",
        "smooth_l1",
        "bce",
        "bce_with_logits",
        "output_mean_square",
    ] = "auto"
    """A loss of torch.nn.functional; auto: guessed from the output."""
    precision: Literal[
        "float32", "float64", "bfloat16", "float16", "pure_bfloat16", "pure_float16"
    ] = "float32"
    """Of the arithmetic. bfloat16, float16: mixed, under torch.autocast with parameters in float32
    (and a loss scale in training, for float16); pure_…: parameters too, as after model.half().
    What 16 bits lose is told against float32, layer by layer."""
    optimizer: OptimizerIn | None = None
    """The verdict is then for this one; null: it asks both SGD and Adam."""
    trial_steps: int = Field(default=100, ge=0, le=10_000)
    """Steps of the short training, 0 … 10000; 0 turns it off."""
    mode: Literal["train", "eval", "as_saved"] = "train"
    """train, eval, or as_saved: as the file says."""
    budget_seconds: float = Field(default=60.0, gt=0, le=1800)
    """Wall-clock time of the analysis, up to 1800 s; what was cut to keep it is in `notes`."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")
    """auto, cpu, cuda or cuda:N; auto: a GPU for large specs where a worker has one."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Root of all randomness, 0 … 2^63 - 1; same request and seed, same numbers."""

    @field_validator("batch_size", mode="wrap")
    @classmethod
    def _auto_or_count(cls, value: Any, _: Any) -> int | Literal["auto"]:
        if value == "auto":
            return "auto"
        if type(value) is int and 1 <= value <= 65536:
            return value
        raise PydanticCustomError("batch_size", 'must be "auto" or an integer from 1 to 65536')

    def to_domain(self) -> ProbePlan:
        """The same in the engine's words."""
        return ProbePlan(
            inputs=tuple(one.to_domain() for one in self.inputs),
            batch_size=None if self.batch_size == "auto" else self.batch_size,
            batches=self.batches,
            seeds=self.seeds,
            loss=self.loss,
            precision=self.precision,
            optimizer=self.optimizer.to_domain() if self.optimizer else None,
            trial_steps=self.trial_steps,
            mode=self.mode,
            data=self.data,
            budget_seconds=self.budget_seconds,
            device=self.device,
            seed=self.seed,
        )


class IgnoreIn(Wire):
    """A finding the caller accepts; echoed in `suppressed`."""

    code: str = Field(min_length=1, max_length=64)
    """Finding code."""
    layers: str = Field(default="*", min_length=1, max_length=256)
    """Shell-style pattern on layer names."""
    reason: str = Field(default="", max_length=1024)
    """Why, in the caller's words."""


class BaselineIn(Wire):
    """The newest finished analysis that carries this label."""

    label: str = Field(min_length=1, max_length=321, pattern=r"^[^:\x00]+:[^\x00]*$")
    """key:value, as branch:main."""

    def to_domain(self) -> BaselineRequest:
        """The same in the engine's words."""
        key, _, value = self.label.partition(":")
        return BaselineRequest(key, value)


def _known_kind(kind: str) -> str:
    if kind not in ALL_KINDS:
        raise PydanticCustomError("kind", "must be one of {kinds}", {"kinds": ", ".join(ALL_KINDS)})
    return kind


Kind = Annotated[
    str, Field(json_schema_extra={"enum": list(ALL_KINDS)}), AfterValidator(_known_kind)
]


class AnalysisOptions(Wire):
    """Everything about an analysis but the model: the part `request` of a multipart call."""

    probe: ProbeIn = Field(default_factory=ProbeIn)
    """Inputs, batches, seeds, loss, optimizer, time."""
    allowed_changes: list[Kind] = Field(default=list(ALL_KINDS))
    """Kinds of recommendation the caller can use; default: every kind."""
    ignore: list[IgnoreIn] = Field(default_factory=list, max_length=1000)
    """Findings the caller accepts."""
    retain: Literal["all", "statistics", "nothing"] = "all"
    """What is kept. statistics: the files of model, weights and data are deleted when the analysis
    ends, succeeded or not, as soon as no other analysis that goes on or retains all refers to them
    and unless they were sent again since; a spec's JSON stays. nothing: the analysis is deleted
    too, once its final answer was given to a GET of it or to the POST that waited, the gate's
    refusals included."""
    fresh: bool = False
    """True: measure again. Otherwise a request that differs from an earlier one of yours, which
    succeeded, in nothing but labels and retain is answered at once with that one's result, as a new
    analysis that says `cached`."""
    fail_on: Literal["error", "warning", "never"] = "error"
    """Lowest severity that makes `passed` false."""
    baseline: BaselineIn | None = None
    """Compare with the newest analysis of yours that succeeded and carries this label: layers that
    lose gradient against it, beyond chance, are finding `gradient_regression`. Where there is none,
    `notes` says so."""
    labels: dict[LabelKey, LabelText] = Field(default_factory=dict, max_length=64)
    """The caller's own key-value pairs; keys without a colon."""

    def to_domain(self, model: ModelRequest) -> AnalysisRequest:
        """The same in the engine's words."""
        return AnalysisRequest(
            model=model,
            probe=self.probe.to_domain(),
            allowed_changes=tuple(self.allowed_changes),
            ignore=tuple(IgnoreRule(one.code, one.layers, one.reason) for one in self.ignore),
            fail_on=None if self.fail_on == "never" else Severity(self.fail_on),
            labels=dict(self.labels),
            retain=self.retain,
            fresh=self.fresh,
            baseline=self.baseline.to_domain() if self.baseline else None,
        )


class AnalysisIn(AnalysisOptions):
    """One request to analyse one model."""

    model: ModelIn
    """An architecture spec, or an artifact stored before."""
