"""Written by `python -m benchmarks.calibrate --write`: not by hand."""

from service.diagnosis.calibration import Calibration, Weighing

FITTED = Calibration(
    doubt=-3.971,
    oddities={
        "noise": 4.936,
        "thin": 1.385,
        "small_state": 5.009,
        "long_sequence": 0.6,
        "unknown_steps": 2.0,
        "deep": 2.105,
        "fall": 1.096,
        "blur": 1.095,
        "seeds_differ": 5.044,
        "saturated": 20.396,
        "large_output": 2.768,
        "bounded_output": 2.368,
    },
    static=Weighing(trust=1.103, bias=(-0.253, 0.468, -0.215), weights={}),
    trial=Weighing(
        trust=0.759,
        bias=(-2.857, 1.166, 1.691),
        weights={
            "sgd_learned": (-0.889, -0.155, 1.044),
            "sgd_progress": (0.062, -0.066, 0.005),
            "sgd_slow": (1.049, 0.312, -1.361),
            "adam_learned": (-0.501, -0.036, 0.537),
            "adam_progress": (-0.335, -0.152, 0.487),
            "adam_slow": (1.266, -0.079, -1.187),
        },
    ),
)
