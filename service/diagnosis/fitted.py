"""Written by `python -m benchmarks.calibrate --write`: not by hand."""

from service.diagnosis.calibration import Calibration, Weighing

FITTED = Calibration(
    doubt=-3.813,
    oddities={
        "noise": 6.598,
        "thin": 1.643,
        "small_state": 5.362,
        "long_sequence": 0.6,
        "unknown_steps": 2.0,
        "deep": 2.022,
        "fall": 0.932,
        "blur": 1.171,
        "seeds_differ": 4.548,
        "saturated": 17.569,
        "large_output": 2.757,
        "bounded_output": 2.712,
    },
    static=Weighing(trust=1.059, bias=(-0.3, 0.459, -0.159), weights={}),
    trial=Weighing(
        trust=0.705,
        bias=(-2.629, 1.724, 0.905),
        weights={
            "sgd_learned": (-0.657, -0.277, 0.933),
            "sgd_progress": (0.26, -0.121, -0.138),
            "sgd_slow": (1.458, 0.155, -1.613),
            "adam_learned": (-1.606, -0.117, 1.723),
            "adam_progress": (-1.155, 0.262, 0.893),
            "adam_slow": (1.733, -0.362, -1.371),
        },
    ),
)
