"""Written by `python -m benchmarks.calibrate --write`: not by hand."""

from service.diagnosis.calibration import Calibration, Weighing

FITTED = Calibration(
    doubt=-3.795,
    oddities={
        "noise": 6.467,
        "thin": 1.388,
        "small_state": 4.953,
        "long_sequence": 0.6,
        "unknown_steps": 2.0,
        "deep": 2.014,
        "fall": 0.749,
        "blur": 1.297,
        "seeds_differ": 4.518,
        "saturated": 20.503,
        "large_output": 2.753,
        "bounded_output": 2.895,
    },
    static=Weighing(trust=1.088, bias=(-0.231, 0.459, -0.229), weights={}),
    trial=Weighing(
        trust=0.736,
        bias=(-2.394, 1.415, 0.979),
        weights={
            "sgd_learned": (-0.673, -0.04, 0.713),
            "sgd_progress": (0.167, -0.15, -0.017),
            "sgd_slow": (1.211, 0.489, -1.699),
            "adam_learned": (-1.751, -0.102, 1.853),
            "adam_progress": (-1.22, 0.133, 1.087),
            "adam_slow": (1.611, -0.562, -1.048),
        },
    ),
)
