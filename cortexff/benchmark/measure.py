"""How it is measured: in turns with matrix products of the same shape and precision, by medians."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx as nx
import numpy as np
import torch

from cortexff.benchmark.cases import SPIKING, Case
from cortexff.description import parse
from cortexff.engines import cost
from cortexff.engines.rate import RateEngine
from cortexff.engines.rehearsal import PLASTICITY, Rehearsal, Stopwatch, random_batch
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics
from cortexff.equations.normalization import length_normalization
from cortexff.graph import has_context, hidden_areas, load_model, only_area, parse_model

AUTOGRAD, BY_HAND = (
    Path(__file__).parents[2] / "tests" / f"{name}.py" for name in ("autograd_update", "brian_by_hand")
)
EPOCHS = {"mnist": 60000, "cifar10": 50000}  # training images
LABELS = 10  # that lie in the image, where a net has no area for them

Row = dict[str, Any]


def net_of(case: Case) -> nx.MultiDiGraph:
    """The case's model, its hidden areas resized where the case says so."""
    net = load_model(case.model)
    if case.units is None:
        return net
    written = parse(net.graph["text"], net.graph["source"])
    for area in hidden_areas(net):
        written["areas"][area]["units"] = case.units
    return parse_model(json.dumps(written), net.graph["source"])


def versions_of(case: Case, net: nx.MultiDiGraph) -> int:
    """In which each image is shown: with a right and a wrong label, or with all labels."""
    if not case.testing:
        return 2
    return net.nodes[only_area(net, "context")]["units"] if has_context(net) else LABELS


def multiplications(case: Case) -> int:
    """What the algorithm needs for a case, all subjects together."""
    net = net_of(case)
    if case.testing:
        steps = min(case.steps, case.window[1])
        return case.subjects * cost.testing(net, case.batch, versions_of(case, net), steps)
    return case.subjects * cost.training(net, case.batch, 2, case.steps)


# ------------------------------------------------------------------------ the work


def work(case: Case, device: str) -> Callable[[], object]:
    """A function that does a case's work once, on random images."""
    net = net_of(case)
    dynamics = RateDynamics(damping=case.damping, steps=case.steps, precision=case.precision, device=device)
    if case.way == "autograd":
        units = net.nodes[hidden_areas(net)[0]]["units"]
        images, pairs = (array[0].to(device) for array in random_batch(net, 1, case.batch))
        plain = from_tests(AUTOGRAD).AutogradNet(images.shape[-1], units, pairs.shape[-1], dynamics, PLASTICITY)
        return partial(plain.update, images[:, 0], pairs[:, 0], pairs[:, 1])

    together = [range(case.subjects)] if case.way != "singly" else [[subject] for subject in range(case.subjects)]
    engines = [RateEngine(net, dynamics, tiled=case.way != "masked") for _ in together]
    rehearsals = [
        Rehearsal(engine, engine.start(0, members), case.batch, versions_of(case, net))
        for engine, members in zip(engines, together, strict=True)
    ]

    def once() -> None:
        for rehearsal in rehearsals:
            if case.testing:
                rehearsal.test(case.window)
            else:
                rehearsal.update()

    return once


def from_tests(path: Path) -> ModuleType:
    """A plain implementation, which only a checkout has."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Product:
    """A matrix product as a step of the engine has it: what areas hear, times the weights between hidden areas."""

    subjects: int
    rows: int
    units: int
    precision: str

    @classmethod
    def of(cls, case: Case) -> Product:
        net = net_of(case)
        versions = versions_of(case, net)
        subjects = case.subjects if case.way != "singly" else 1
        return cls(subjects, case.batch * versions, net.nodes[hidden_areas(net)[0]]["units"], case.precision)

    @property
    def multiplications(self) -> int:
        return self.subjects * self.rows * self.units**2

    def __str__(self) -> str:
        shape = f"{self.rows}x{self.units} by {self.units}x{self.units}"
        return shape if self.subjects == 1 else f"{self.subjects} of {shape}"

    def work(self, device: str) -> Callable[[], object]:
        make = {"device": device, "dtype": getattr(torch, self.precision)}
        heard = torch.rand(self.subjects, self.rows, self.units, **make)
        weights = torch.rand(self.subjects, self.units, self.units, **make)
        return partial(torch.bmm, heard, weights.mT)


# ------------------------------------------------------------------------ time


def timed(cases: Sequence[Case], repeats: int, device: str) -> list[Row]:
    """The rows of a group of cases that are timed in turns, each after the product of its own shape."""
    watches: dict[Case | Product, Stopwatch] = {}
    for case in cases:
        for each in (Product.of(case), case):
            if each not in watches:
                watches[each] = Stopwatch(work(each, device) if each is case else each.work(device), device)
    for _ in range(repeats):
        for watch in watches.values():
            watch.sample()

    rows = {}
    for case in cases:
        product, count, watch = Product.of(case), multiplications(case), watches[case]
        rate, peak = count / watch.median, product.multiplications / watches[product].median
        rows[case.name] = {
            "case": case.name,
            "precision": case.precision,
            "milliseconds": 1e3 * watch.median,
            "milliseconds_quartiles": [1e3 * second for second in np.quantile(watch.samples, (0.25, 0.75))],
            "multiplications": count,
            "gigaflops": 2e-9 * rate,
            "product_gigaflops": 2e-9 * peak,
            "product_shape": str(product),
            "fraction_of_peak": rate / peak,
            "repeats": repeats,
        }
        family = case.model.split("_")[0]
        if family in EPOCHS and not case.testing and not case.growing:
            rows[case.name]["seconds_per_epoch"] = watch.median * EPOCHS[family] / case.batch
    for case in cases:
        if case.beside in rows:
            row, other = rows[case.name], rows[case.beside]
            ratio = row["milliseconds"] / other["milliseconds"]
            if case.growing:
                ratio *= other["multiplications"] / row["multiplications"]
            row |= {"ratio": ratio, "ratio_to": case.beside, "ratio_of": "time/work" if case.growing else "time"}
    return list(rows.values())


# ------------------------------------------------------------------------ spikes

SPIKING_IMAGES = 20  # each with every label: as many presentations as a program shows


def spiking(names: Sequence[str], repeats: int) -> list[Row]:
    """Rows of ``cases.SPIKING``: the time of a presentation, timed in turns, and synaptic events a second."""
    net = load_model("digits_recurrent")
    pixels, count = (net.nodes[only_area(net, role)]["units"] for role in ("input", "context"))
    random = np.random.default_rng(0)
    image = length_normalization(torch.from_numpy(random.random((1, SPIKING_IMAGES, 1, pixels), dtype=np.float32)))
    label, presentations = length_normalization(torch.eye(count)[None, None]), SPIKING_IMAGES * count
    engines = {way: SpikingEngine(net, RateDynamics(), backend=way) for way in ("cpp", "torch")}
    state = engines["torch"].start(0, [0])

    def show(engine: SpikingEngine) -> Mapping[str, torch.Tensor]:
        """Spikes of each hidden area."""
        *_, last = engine.settle(state, engine.look(state, {"retina": image}), {"label": label})
        return last.spikes

    plain, clock = engines["torch"], engines["torch"].clock
    sent = {area: spikes.sum().item() for area, spikes in show(plain).items()}
    sent["retina"] = image.sum().item() * count * plain.neurons.per_step * clock.whole
    sent["label"] = label.sum().item() * SPIKING_IMAGES * plain.neurons.per_step * (clock.whole - clock.bottom_up)
    events = sum(number * cost.synapses_from(net, area) / plain.units[area] for area, number in sent.items())
    watches = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            way = name.removeprefix("spikes_digits_")
            if way == "by_hand":
                shape = (1, SPIKING_IMAGES, count, -1)
                rows = [array.expand(shape).flatten(0, 2).double().numpy() for array in (image, label)]
                weights = {name: matrix[0].double().numpy() for name, matrix in state.weights.items()}
                script = from_tests(BY_HAND)
                work = partial(script.run, script.compile_script(Path(folder), *rows, weights))
            else:
                work = partial(show, engines[way])
            watches[name] = Stopwatch(work, "cpu")
        for _ in range(repeats):
            for watch in watches.values():
                watch.sample()
    found = {}
    for name, watch in watches.items():
        each = [1e3 * seconds / presentations for seconds in np.quantile(watch.samples, (0.5, 0.25, 0.75))]
        found[name] = {
            "case": name,
            "milliseconds": each[0],
            "milliseconds_quartiles": each[1:],
            "events_per_second": 1e3 * events / presentations / each[0],
            "repeats": repeats,
        }
    if SPIKING[0] in found and SPIKING[1] in found:
        ratio = found[SPIKING[0]]["milliseconds"] / found[SPIKING[1]]["milliseconds"]
        found[SPIKING[0]] |= {"ratio": ratio, "ratio_to": SPIKING[1], "ratio_of": "time"}
    return list(found.values())


# ------------------------------------------------------------------------ memory


def remembered(cases: Sequence[Case], device: str) -> list[Row]:
    """Rows with the peak memory of two updates, each case in a fresh process."""
    rows = {}
    for case in cases:
        # A pool for each: a process that has measured once keeps its peak.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            megabytes = fresh.submit(peak_memory, case, device).result()
        rows[case.name] = {"case": case.name, "precision": case.precision, "megabytes": megabytes}
        if case.beside in rows:
            ratio = megabytes / rows[case.beside]["megabytes"]
            rows[case.name] |= {"ratio": ratio, "ratio_to": case.beside, "ratio_of": "memory"}
    return list(rows.values())


def peak_memory(case: Case, device: str) -> float:
    """Megabytes that this process has held at most, after two updates; on a GPU, those of its arrays."""
    update = work(case, device)
    for _ in range(2):
        update()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
    # Not ru_maxrss here: on Linux a new process takes over the peak of the one that started it.
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
