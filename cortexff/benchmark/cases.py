"""What is measured: the paper's nets, a cohort, local fields, growth and memory.

A group of cases is timed in turns, so that what disturbs the machine disturbs them alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

# 64-200-200-10 in spikes: a Brian2 program, the same network as a script of Brian2 written for it, and in PyTorch.
SPIKING = ("spikes_digits_cpp", "spikes_digits_by_hand", "spikes_digits_torch")
PRECISIONS = ("float32", "bfloat16")
QUICK = ("recurrent_2000*", "digits_*_float32", "cifar10_2_float32", "cifar10_2_masked_float32", "growth_steps*")


@dataclass(frozen=True)
class Case:
    """One piece of work: an update, or the labels by goodness of a batch.

    name      of its row
    model     a model's name
    way       ``engine``; ``masked``, local fields as full matrices; ``singly``, one subject after the other;
              ``autograd``, the plain implementation in ``tests/autograd_update.py``
    testing   the label by goodness, instead of an update from each image with a right and a wrong label
    batch     images
    units     of each hidden area, where not the model's
    window    steps whose goodness decides, first and last
    beside    name of the case of the same group that it is compared with
    growing   compared by time for each multiplication instead of by time
    """

    name: str
    model: str = "mnist_recurrent"
    way: str = "engine"
    precision: str = "float32"
    testing: bool = False
    batch: int = 100
    subjects: int = 1
    units: int | None = None
    steps: int = 8
    damping: float = 0.3
    window: tuple[int, int] = (3, 5)
    beside: str = ""
    growing: bool = False


def groups() -> list[list[Case]]:
    """Every group of cases that is timed."""
    plain = "recurrent_2000_autograd_float32"
    chain = {"model": "mnist_feedforward", "steps": 0, "window": (1, 1)}
    cohort = {"model": "digits_recurrent", "batch": 25, "subjects": 10}
    made = [
        [*_both("recurrent_2000", beside=plain), Case(plain, way="autograd")],
        _both("recurrent_2000_testing", testing=True),
        _both("feedforward_2000", **chain),
        _both("feedforward_2000_testing", testing=True, **chain),
        *_against("digits_cohort", "digits_singly", "singly", **cohort),
        _both("digits_cohort_testing", testing=True, **cohort),
    ]
    for name in ("cifar10_2", "cifar10_3"):
        maps = {"model": name, "steps": 10, "window": (4, 6)}  # as in section 4
        made += [*_against(name, f"{name}_masked", "masked", **maps), _both(f"{name}_testing", testing=True, **maps)]
    return [
        *made,
        _growing("units", (1000, 2000, 4000)),
        _growing("batch", (100, 200, 400), units=1000),
        _growing("steps", (8, 16, 32), units=1000),
        _growing("subjects", (1, 2, 4), units=500),
    ]


def memory_cases() -> list[Case]:
    """Training whose peak memory is measured, each in a process of its own."""
    exact, rough = _both("memory_recurrent_2000")
    return [exact, rough, replace(exact, name="memory_200_steps_float32", steps=200, beside=exact.name)]


def _both(name: str, **more: object) -> list[Case]:
    return [Case(f"{name}_{precision}", precision=precision, **more) for precision in PRECISIONS]


def _against(name: str, other: str, way: str, **more: object) -> list[list[Case]]:
    """The engine beside the same work done in another way: a group for each precision."""
    pairs = zip(_both(name, **more), _both(other, way=way, **more), strict=True)
    return [[replace(ours, beside=theirs.name), theirs] for ours, theirs in pairs]


def _growing(what: str, sizes: tuple[int, ...], **more: object) -> list[Case]:
    """The same work at growing sizes, each compared with the size before."""
    names = [f"growth_{what}_{size}_float32" for size in sizes]
    before = {name: smaller for smaller, name in pairwise(names)}
    return [
        Case(name, beside=before.get(name, ""), growing=True, **{**more, what: size})
        for name, size in zip(names, sizes, strict=True)
    ]
