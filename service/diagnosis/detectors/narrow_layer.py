"""Everything passes through a few numbers, and more classes are asked for."""

from __future__ import annotations

import math

from service.diagnosis import thresholds
from service.diagnosis.detector import QUIET, Case, Reading, finding, grade
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements


class NarrowLayer:
    """
    ### What it sees
    A stack without branches that squeezes each sample into one, two or three numbers before its
    last layer, while its loss asks for more classes than that.

    ### Why it matters
    On a line the classes can only be told one after the other, and while two of them stand on the
    wrong sides of each other no small step exchanges them. Each further narrow layer folds what is
    left once more.

    ### Evidence
    `width` in numbers per sample, `classes`, `layers`.

    ### Known false alarms
    Autoencoders and regressions are not asked for classes and stay quiet. A code of two or three
    numbers, made for a plot, does train at times, slowly.

    ### References
    Johnson 2019 (arXiv 1810.00393): deep narrow networks; `thresholds.NARROW`.
    """

    code = "narrow_layer"
    title = "A layer is too narrow"

    def read(self, case: Case) -> Reading:
        """Judge the narrowest hidden layers."""
        model, layers = case.measured.model, case.measured.layers
        row = all(layer.depth == layer.index + 1 and not layer.residual for layer in layers)
        classes = _classes(case)
        limit = min(thresholds.NARROW, classes - 2)
        narrow = [layer for layer in layers[:-1] if _width(layer) <= limit]
        if not row or not narrow or len(model.output_shape) < 2:
            return QUIET
        error, warning = thresholds.NARROW_ONCE if len(narrow) == 1 else thresholds.NARROW_AGAIN
        least = min(narrow, key=_width)
        width = _width(least)
        found = finding(
            self,
            grade(error, warning) or Severity.WARNING,
            warning,
            f"{least.name} leaves {width} number{'s' if width > 1 else ''} of each sample, from "
            f"which {classes} classes are to be told. "
            f"{'It is the one layer' if len(narrow) == 1 else f'{len(narrow)} layers are'} "
            f"of {thresholds.NARROW} or fewer.",
            layers=narrow,
            evidence={
                "width": width,
                "classes": classes,
                "layers": {layer.name: _width(layer) for layer in narrow},
                "threshold": limit,
            },
            causes=[f"The width of {', '.join(layer.name for layer in narrow)}."],
        )
        return Reading(found, error, warning, halfway=True)


def _width(layer: LayerMeasurements) -> int:
    """Numbers per sample."""
    return math.prod(layer.output_shape[1:])


def _classes(case: Case) -> int:
    """That the loss asks to tell; 0 where it asks for none, or at many positions."""
    chance, shape = case.measured.model.chance_loss, case.measured.model.output_shape
    if case.measured.model.loss not in {"cross_entropy", "nll"} or chance is None:
        return 0
    return shape[1] if len(shape) == 2 else 0
