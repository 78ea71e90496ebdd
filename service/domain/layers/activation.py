"""Activation functions; all but GLU and the softmax family work number by number."""

from __future__ import annotations

from typing import Any

from service.domain.layers.axes import one_axis
from service.domain.layers.kinds import Choice, Flag, Real, Whole, optional
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import REQUIRED, Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape

_INPLACE = Argument("inplace", Flag(), False)


def _real(name: str, default: Any = REQUIRED) -> Argument:
    return Argument(name, Real(), default)


def _elementwise(name: str, summary: str, *arguments: Argument) -> LayerType:
    return LayerType(name, "activation", summary, arguments)


def _softmax_shape(args: Args, inputs: Inputs) -> Shape:
    one_axis(args["dim"], "dim", inputs[0].shape)
    return inputs[0].shape


def _explicit_dim(args: Args, inputs: Inputs) -> dict[str, int]:
    """PyTorch's own choice for dim=None, written out: it warns about the choice otherwise."""
    if args["dim"] is not None:
        return {}
    if len(inputs[0].shape) == 2:
        raise BadArgument(
            "dim", "`dim` must be given: left out, PyTorch takes the softmax over the batch here"
        )
    return {"dim": 1}


def _softmax(name: str, summary: str) -> LayerType:
    return LayerType(
        name,
        "activation",
        summary,
        (Argument("dim", optional(Whole(-16, 16)), None),),
        output=_softmax_shape,
        complete=_explicit_dim,
        ranks=(1, None),
    )


def _glu_shape(args: Args, inputs: Inputs) -> Shape:
    shape = inputs[0].shape
    axis = one_axis(args["dim"], "dim", shape)
    if shape[axis] % 2:
        raise Misfit("an even number of features to halve", str(shape[axis]), argument="dim")
    return (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])


def _prelu_shape(args: Args, inputs: Inputs) -> Shape:
    shape, slopes = inputs[0].shape, args["num_parameters"]
    if slopes > 1 and (not shape or shape[0] != slopes):
        gives = str(shape[0]) if shape else "none"
        raise Misfit(f"{slopes} channels", gives, argument="num_parameters")
    return shape


def _check_rrelu(args: Args) -> None:
    if args["lower"] > args["upper"]:
        raise BadArgument("lower", "`lower` must not be above `upper`")


def _check_hardtanh(args: Args) -> None:
    if args["min_val"] >= args["max_val"]:
        raise BadArgument("max_val", "`max_val` must be above `min_val`")


def _check_celu(args: Args) -> None:
    if args["alpha"] == 0:
        raise BadArgument("alpha", "`alpha` must not be 0")


ACTIVATION_TYPES = (
    _elementwise("ReLU", "max(0, x).", _INPLACE),
    _elementwise("ReLU6", "min(max(0, x), 6).", _INPLACE),
    _elementwise(
        "LeakyReLU",
        "x above 0, negative_slope·x below.",
        _real("negative_slope", 0.01),
        _INPLACE,
    ),
    LayerType(
        "PReLU",
        "activation",
        "x above 0, a·x below, with a learned slope a for all channels or one for each.",
        (Argument("num_parameters", Whole(), 1), _real("init", 0.25)),
        output=_prelu_shape,
        parameters=lambda args: {"weight": (args["num_parameters"],)},
    ),
    LayerType(
        "RReLU",
        "activation",
        "x above 0, a·x below, with a slope drawn anew between lower and upper in training.",
        (_real("lower", 1.0 / 8), _real("upper", 1.0 / 3), _INPLACE),
        check=_check_rrelu,
    ),
    _elementwise("ELU", "x above 0, alpha(eˣ − 1) below.", _real("alpha", 1.0), _INPLACE),
    LayerType(
        "CELU",
        "activation",
        "max(0, x) + min(0, alpha(exp(x/alpha) − 1)).",
        (_real("alpha", 1.0), _INPLACE),
        check=_check_celu,
    ),
    _elementwise("SELU", "Scaled ELU, self-normalizing under LeCun initialization.", _INPLACE),
    _elementwise(
        "GELU",
        "xΦ(x), with Φ the standard normal distribution function.",
        Argument("approximate", Choice(("none", "tanh")), "none"),
    ),
    _elementwise("SiLU", "x·sigmoid(x), also called swish.", _INPLACE),
    _elementwise("Mish", "x·tanh(softplus(x)).", _INPLACE),
    _elementwise("Hardswish", "x·relu6(x + 3)/6.", _INPLACE),
    _elementwise("Sigmoid", "1/(1 + e⁻ˣ)."),
    _elementwise("LogSigmoid", "log(1/(1 + e⁻ˣ))."),
    _elementwise("Hardsigmoid", "relu6(x + 3)/6.", _INPLACE),
    _elementwise("Tanh", "Hyperbolic tangent."),
    LayerType(
        "Hardtanh",
        "activation",
        "x cut to the range min_val … max_val.",
        (_real("min_val", -1.0), _real("max_val", 1.0), _INPLACE),
        check=_check_hardtanh,
    ),
    _elementwise("Tanhshrink", "x − tanh(x)."),
    _elementwise(
        "Softplus",
        "log(1 + exp(beta·x))/beta, linear where beta·x is above threshold.",
        Argument("beta", Real(above=0), 1.0),
        _real("threshold", 20.0),
    ),
    _elementwise("Softsign", "x/(1 + |x|)."),
    _elementwise(
        "Softshrink",
        "x moved towards 0 by lambd, 0 within ±lambd.",
        Argument("lambd", Real(0), 0.5),
    ),
    _elementwise("Hardshrink", "x outside ±lambd, 0 within.", _real("lambd", 0.5)),
    _elementwise(
        "Threshold",
        "x above threshold, value elsewhere.",
        _real("threshold"),
        _real("value"),
        _INPLACE,
    ),
    LayerType(
        "GLU",
        "activation",
        "Gated linear unit: the first half of a dimension times the sigmoid of the second.",
        (Argument("dim", Whole(-16, 16), -1),),
        output=_glu_shape,
        ranks=(1, None),
    ),
    _softmax("Softmax", "exp(x) over its sum along dim."),
    _softmax("LogSoftmax", "Logarithm of the softmax along dim."),
    _softmax("Softmin", "Softmax of −x along dim."),
    LayerType(
        "Softmax2d",
        "activation",
        "Softmax over the channels at every pixel.",
        ranks=(3, 3),
        axes="(channels, height, width)",
    ),
    _elementwise(
        "NoisyReLU",
        "max(0, x + noise) in training, the noise normal with variance sigmoid(x) "
        "(Nair & Hinton 2010); max(0, x) in evaluation.",
    ),
    _elementwise("Exponential", "eˣ; with the next two, what Keras has and torch.nn lacks."),
    _elementwise("Squareplus", "(x + √(x² + 4))/2."),
    _elementwise("SparsePlus", "x above 1, (x + 1)²/4 within ±1, 0 below."),
)
