"""A small net, a short life with all of its phases, and images for it, for the tests of the runner."""

import numpy as np

from cortexff.protocol.schedule import Protocol
from cortexff.protocol.settings import merge
from cortexff.stimuli.images import Images

PIXELS, LABELS = 9, 4
MODEL = {
    "format": "cortexff-model/1",
    "areas": {
        "retina": {"role": "input", "units": PIXELS},
        "V1": {"units": 16},
        "V2": {"units": 12},
        "label": {"role": "context", "units": LABELS},
    },
    "projections": [
        {"from": "retina", "to": "V1"},
        {"from": "V1", "to": "V2"},
        {"from": "V2", "to": "V1", "kind": "top_down"},
        {"from": "label", "to": "V2", "kind": "top_down"},
    ],
}
SETTINGS = {
    "format": "cortexff-protocol/1",
    "title": "A short life",
    "section": "9",
    "model": "tiny",
    "stimuli": {"minibatch": 5, "validation": 12},  # 8 updates an epoch
    "engine": {"steps": 3},
    "readout": {"steps": [2, 3], "softmax": {"learning_rate": 3.0}},
    "subjects": 2,
    "seed": 1,
    "plasticity": {"learning_rate": 1, "weight_cost": 0, "peer_normalization": 0},
    "stages": {
        "childhood": {
            "phase": "interleaved",
            "updates": 4,
            "plasticity": {"learning_rate": 5, "weight_cost": 0.001, "peer_normalization": 0.03},
            "decay_from": 0.5,
            "train_softmax": True,
            "probe": 2,
            "probe_on": "validation",
        },
        "interleaved": {"phase": "interleaved", "updates": 2, "probe": "log"},
        "deprivation": {"phase": "wake", "updates": 2, "probe": "log"},
        "frozen": {"phase": "rest", "updates": 5, "probe": 3},
        "sleep": {"phase": "sleep", "updates": 2},
    },
    "conditions": {
        "development": {"stages": ["childhood"]},
        "control": {"from": "development", "stages": ["interleaved"]},
        "frozen": {"from": "development", "stages": ["frozen"]},
        "deprived": {"from": "development", "stages": ["deprivation"]},
        "recovered": {"from": "deprived", "stages": ["sleep", "frozen"]},
    },
    "variants": {"max": {"goodness": {"sign": "max"}}},
    "table": {"conditions": ["control", "deprived"], "against": "control", "metrics": {"fp_neg": None}},
}


def protocol_of(*changes: dict) -> Protocol:
    settings = merge(SETTINGS, {})
    for change in changes:
        settings = merge(settings, change)
    parts = [*(settings[part] for part in ("stages", "conditions", "variants")), settings["table"]["metrics"]]
    for part in parts:  # a change to "none" takes a part away
        for name in [name for name, value in part.items() if value == "none"]:
            del part[name]
    return Protocol.model_validate(settings)


def images_of(pixels: int = PIXELS, classes: int = LABELS, training: int = 40) -> Images:
    """A few shapes in noise: 40 to learn from, 16 to test and 12 to validate on."""
    random = np.random.default_rng(0)
    shapes = random.random((classes, pixels)) < 0.4

    def drawn(cases: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(cases) % classes
        return (shapes[labels] + 0.3 * random.random((cases, pixels))).astype(np.float32), labels

    shape = (3, 3) if pixels == PIXELS else (1, pixels)
    return Images("shapes", shape, *drawn(training), *drawn(16), *drawn(12), classes=classes)
