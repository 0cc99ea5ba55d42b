"""Random numbers that belong to one subject and one purpose, whoever else is in the run."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, subject: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The random stream of one subject for one purpose.

    Every draw of a run is a function of these four, so a subject simulated alone meets the numbers it meets in a
    cohort, conditions that fork from one checkpoint share their data order, and a resumed run needs no saved state.

    seed     the run's seed
    subject  the subject's number, from 0
    purpose  what is drawn, such as ``"weights/V1→V2"`` or ``"order"``
    index    which draw of that purpose: the update or epoch
    """
    return np.random.default_rng((seed, subject, zlib.crc32(purpose.encode()), index))
