"""Two newborns live for some updates, and all of them is kept.

``live_in_ranks.py OUT.npz UPDATES PROTOCOL VARIANT PRESET RATE``. Started by ``torchrun`` with several processes it
must give what it gives with one; test_ranks.py compares.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from cortexff.engines import ranks
from cortexff.graph import load_model
from cortexff.log import Log
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.presentation import images_of
from cortexff.protocol.runner import Run


def live(out: str, updates: str, name: str, variant: str, preset: str, learning_rate: str) -> None:
    ranks.join()
    changes = {"engine": {"precision": "float32"}, "plasticity": {"learning_rate": float(learning_rate)}}
    protocol = load_protocol(name, preset, {"live_in_ranks.py": changes})
    images = images_of(protocol.stimuli)
    with tempfile.TemporaryDirectory() as folder:
        log = Log.create(Path(folder) / "log.h5", {}, {"subject": [0, 1]})
        run = Run(protocol, load_model(protocol.model), images, log, Path(folder) / "none.h5", subjects=[0, 1])
        segment = next(segment for segment in run.segments if segment.variant == variant)
        protocol = protocol.variant(variant)
        engine = run._engine(variant, protocol.engine, True)
        cohort = run._begin(engine, protocol, segment)
        for _ in range(int(updates)):
            run.lessons.update(engine, cohort, protocol, segment.stage)
        found = run._measure(engine, protocol, segment, cohort)
    if ranks.number() == 0:
        np.savez(out, **cohort.arrays(), **{f"probe/{name}": value for name, value in found.row.items()})
    ranks.leave()


if __name__ == "__main__":
    live(*sys.argv[1:])
