"""Written by `python -m benchmarks.calibrate --write`: not by hand."""

from service.diagnosis.calibration import Calibration, Weighing

FITTED = Calibration(
    doubt=-3.971,
    oddities={
        "noise": 4.93,
        "thin": 1.384,
        "small_state": 5.008,
        "long_sequence": 0.6,
        "unknown_steps": 2.0,
        "deep": 2.105,
        "fall": 1.096,
        "blur": 1.096,
        "seeds_differ": 5.044,
        "saturated": 20.398,
        "large_output": 2.768,
        "bounded_output": 2.367,
    },
    static=Weighing(trust=1.095, bias=(-0.26, 0.465, -0.205), weights={}),
    trial=Weighing(
        trust=0.762,
        bias=(-3.015, 1.252, 1.763),
        weights={
            "sgd_learned": (-0.942, -0.116, 1.058),
            "sgd_progress": (0.055, -0.063, 0.007),
            "sgd_slow": (1.092, 0.307, -1.399),
            "adam_learned": (-0.492, -0.052, 0.544),
            "adam_progress": (-0.333, -0.156, 0.489),
            "adam_slow": (1.308, -0.111, -1.196),
        },
    ),
)
