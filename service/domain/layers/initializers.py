"""The functions of torch.nn.init, and forget_gate_: their arguments and what they fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.domain.layers.kinds import LARGEST_FLOAT32, Choice, Real, Whole
from service.domain.layers.signature import Args, Argument, BadArgument, Signature
from service.domain.layers.tensor import Shape, listed

MAX_DIMENSIONS = 16
"""No parameter has more."""
NONLINEARITIES = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
)
"""What torch.nn.init.calculate_gain knows."""


class DoesNotFit(Exception):
    """An initializer on a parameter that it cannot fill; the text says what it needs."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What an initializer is asked to fill."""

    layer_type: str
    name: str
    """Within the module."""
    shape: Shape


def any_parameter(_args: Args, _parameter: Parameter) -> None:
    """Fits everything."""


@dataclass(frozen=True, slots=True)
class Initializer:
    """A function that fills one parameter in place."""

    name: str
    summary: str
    """What it fills with, one sentence."""
    arguments: tuple[Argument, ...] = ()
    """Keyword arguments after the tensor, without the generator."""
    dimensions: tuple[int, int] = (0, MAX_DIMENSIONS)
    """Fewest and most dimensions of a parameter it fits."""
    check: Callable[[Args], None] | None = None
    """What the arguments owe each other. Raises BadArgument."""
    fits: Callable[[Args, Parameter], None] = any_parameter
    """What it asks beyond the number of dimensions. Raises DoesNotFit."""

    @property
    def signature(self) -> Signature:
        """The call."""
        return Signature(self.name, self.arguments, self.check)

    def check_fit(self, args: Args, parameter: Parameter) -> None:
        """Raises DoesNotFit when it cannot fill the parameter. `args` have no faults."""
        low, high = self.dimensions
        if not low <= len(parameter.shape) <= high:
            span = {low: str(low), MAX_DIMENSIONS: f"{low} or more"}.get(high, f"{low} to {high}")
            raise DoesNotFit(
                f"{self.name} needs a parameter of {span} dimensions, "
                f"`{parameter.name}` is {listed(parameter.shape)}"
            )
        self.fits(self.signature.complete(args), parameter)


def _range_in_order(args: Args) -> None:
    if args["a"] > args["b"]:
        raise BadArgument("a", "`a` must not be above `b`")
    if args["b"] - args["a"] > LARGEST_FLOAT32:
        raise BadArgument("b", "the range from `a` to `b` is wider than float32 can hold")


def _dirac_groups(args: Args, parameter: Parameter) -> None:
    if parameter.shape[0] % args["groups"]:
        raise DoesNotFit(
            f"`groups` {args['groups']} must divide the {parameter.shape[0]} "
            f"output channels of `{parameter.name}`"
        )


def _input_bias_of_lstm(_args: Args, parameter: Parameter) -> None:
    if parameter.layer_type not in ("LSTM", "LSTMCell") or not parameter.name.startswith("bias_ih"):
        raise DoesNotFit(
            f"forget_gate_ sets bias_ih of an LSTM, "
            f"not `{parameter.name}` of {parameter.layer_type}"
        )


_MEAN = Argument("mean", Real(), 0.0)
_GAIN = Argument("gain", Real(), 1.0)
_MATRIX_OR_MORE = (2, MAX_DIMENSIONS)
_XAVIER = ((Argument("gain", Real(0), 1.0),), _MATRIX_OR_MORE)
_GLOROT_VARIANCE = "variance 2·gain²/(fan_in + fan_out)"
_KAIMING = (
    (
        Argument("a", Real(), 0),
        Argument("mode", Choice(("fan_in", "fan_out")), "fan_in"),
        Argument("nonlinearity", Choice(NONLINEARITIES), "leaky_relu"),
    ),
    _MATRIX_OR_MORE,
)

INITIALIZERS: Mapping[str, Initializer] = MappingProxyType(
    {
        initializer.name: initializer
        for initializer in (
            Initializer(
                "uniform_",
                "Uniform between a and b.",
                (Argument("a", Real(), 0.0), Argument("b", Real(), 1.0)),
                check=_range_in_order,
            ),
            Initializer(
                "normal_", "Normal with mean and std.", (_MEAN, Argument("std", Real(0), 1.0))
            ),
            Initializer(
                "trunc_normal_",
                "Normal with mean and std, redrawn until between a and b.",
                (
                    _MEAN,
                    Argument("std", Real(above=0), 1.0),
                    Argument("a", Real(), -2.0),
                    Argument("b", Real(), 2.0),
                ),
                check=_range_in_order,
            ),
            Initializer("constant_", "The value val.", (Argument("val", Real()),)),
            Initializer("ones_", "Ones."),
            Initializer("zeros_", "Zeros."),
            Initializer("eye_", "The identity matrix.", dimensions=(2, 2)),
            Initializer(
                "dirac_",
                "Kernels that hand their input channels on unchanged.",
                (Argument("groups", Whole(), 1),),
                (3, 5),
                fits=_dirac_groups,
            ),
            Initializer("xavier_uniform_", f"Uniform with {_GLOROT_VARIANCE}.", *_XAVIER),
            Initializer("xavier_normal_", f"Normal with {_GLOROT_VARIANCE}.", *_XAVIER),
            Initializer("kaiming_uniform_", "Uniform with variance gain²/fan.", *_KAIMING),
            Initializer("kaiming_normal_", "Normal with variance gain²/fan.", *_KAIMING),
            Initializer(
                "orthogonal_",
                "gain times a random (semi-)orthogonal matrix, further dimensions flattened.",
                (_GAIN,),
                _MATRIX_OR_MORE,
            ),
            Initializer(
                "sparse_",
                "Normal with std, the fraction sparsity of every column zero.",
                (Argument("sparsity", Real(0, 1)), Argument("std", Real(0), 0.01)),
                (2, 2),
            ),
            Initializer(
                "forget_gate_",
                "val in the forget gate's quarter of bias_ih of an LSTM, the rest unchanged.",
                (Argument("val", Real(), 1.0),),
                (1, 1),
                fits=_input_bias_of_lstm,
            ),
        )
    }
)
"""Every function an `init` may name."""
