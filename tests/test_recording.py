"""What a GPU will be given, on CPU tensors: operations that are recorded and played again, and where arrays lie."""

import copy
from dataclasses import replace

import pytest
import torch
from scenes import BARE, CUDA, FIGURE_3, PHASES, Scene, assert_close, model, random_net, scene
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cortexff.engines import recording
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Plasticity, RateDynamics
from cortexff.readout import goodness_trace

LOOKS_INSIDE = ("_local_scalar_dense", "lift_fresh", "nonzero", "equal", "is_nonzero")


class CpuTape(TorchDispatchMode):
    """Keeps every operation with its arrays, as a CUDA graph does, and refuses what one refuses.

    Played again, an operation reads and writes the arrays that it read and wrote while it was recorded.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if any(name in str(operation) for name in LOOKS_INSIDE):
            raise AssertionError(f"{operation} waits for the GPU, or brings it numbers of Python's")
        result = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, result))
        return result

    def replay(self):
        for operation, args, kwargs, result in self.operations:
            again = operation(*args, **kwargs)
            if isinstance(result, torch.Tensor) and again.data_ptr() != result.data_ptr():
                result.copy_(again)


def cpu_tape(work):
    with CpuTape() as tape:
        result = work()
    for array in (a for gradient in result for a in gradient.arrays()):
        array.fill_(torch.nan)  # recording alone computes nothing on a GPU
    return result, tape.replay


def recorded(given: Scene) -> Scene:
    """The same scene with an engine that records, and a state of its own."""
    tape = "auto" if given.engine.device.type == "cuda" else cpu_tape
    engine = RateEngine(given.engine.net, given.engine.dynamics, tape=tape)
    return replace(given, engine=engine, state=copy.deepcopy(given.state))


def other_data(given: Scene, number: int) -> Scene:
    """The same shapes filled with other numbers."""
    random = torch.Generator().manual_seed(number)

    def drawn(arrays):
        return {area: torch.randn(array.shape, generator=random).to(array.device) for area, array in arrays.items()}

    return replace(given, images=drawn(given.images), context=drawn(given.context))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("number", range(12))
def test_a_recorded_life_is_the_life(number, precision, device):
    """Five minibatches at falling rates, with other use of the engine between them: bit for bit the same weights."""
    dynamics = {"precision": precision, "steps": 10, "alternating": number % 3 == 0, "device": device}
    plain = scene(random_net(number), PHASES[number % 4], number, **dynamics)
    plain.engine = RateEngine(plain.engine.net, plain.engine.dynamics, tape=None)
    taped = recorded(plain)
    for update in range(5):
        for given in (plain, taped):
            now = other_data(given, update)
            now.learn(Plasticity(1.0 / (1 + update)))
            other_data(given, 100 + update).settled()
    assert len(taped.engine.recordings.kept) == 1
    for path, array in plain.state.arrays().items():
        assert torch.equal(array, taped.state.arrays()[path]), path


def test_another_cohort_batch_or_phase_is_recorded_anew():
    plain = scene(model(*FIGURE_3))
    taped = recorded(plain)

    def both(change):
        for given in (plain, taped):
            change(given).learn(Plasticity(1.0))

    both(lambda given: given)
    both(lambda given: given)
    both(lambda given: replace(given, context={"label": given.context["label"][:, :, 1:]}, is_positive=(False,)))
    both(lambda given: replace(given, context={"label": given.context["label"][:, :, 1:]}, is_positive=(True,)))
    assert len(taped.engine.recordings.kept) == 3
    short = {"images": {"retina": plain.images["retina"][:, :2]}}
    if plain.context["label"].shape[1] > 1:
        short["context"] = {"label": plain.context["label"][:, :2]}
    both(lambda given: replace(given, **short))
    both(lambda given: given)
    assert len(taped.engine.recordings.kept) == recording.KEPT
    for given in (plain, taped):
        given.state = given.state.select([1, 0])
    both(lambda given: given)
    assert len(taped.engine.recordings.kept) == recording.KEPT
    assert_close(plain.state, taped.state, rtol=0, atol=0)


def test_weights_that_are_replaced_are_read():
    plain = scene(model(*FIGURE_3), precision="bfloat16")
    taped = recorded(plain)
    for given in (plain, taped):
        given.learn(BARE)
        given.state.weights["V1→V2"] = given.state.weights["V1→V2"] * -1
        given.learn(BARE)
        given.state.weights["V2→V1"].mul_(-1)
        given.learn(BARE)
    assert_close(plain.state, taped.state, rtol=0, atol=0)


def test_on_a_cpu_nothing_is_recorded_unless_asked():
    assert scene(model(*FIGURE_3)).engine.recordings is None


class OnDevice(TorchDispatchMode):
    """Refuses operations with arrays that lie elsewhere."""

    def __init__(self, device: str):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        arrays = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        assert all(array.device.type == self.device for array in arrays), operation
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("number", range(12))
def test_every_operation_is_done_on_the_engine_s_device(number, precision):
    """PyTorch's "meta" device has no numbers and stands in for a GPU: nothing is left on the processor."""
    given = scene(random_net(number), PHASES[number % 4], number, precision=precision)
    engine = RateEngine(given.engine.net, RateDynamics(precision=precision, device="meta"))
    state = given.state.from_arrays({path: array.to("meta") for path, array in given.state.arrays().items()})
    images, context = (
        {area: array.to("meta") for area, array in arrays.items()} for arrays in (given.images, given.context)
    )
    engine.positive[given.is_positive] = torch.empty(len(given.is_positive), 1, device="meta")  # made from Python's
    with OnDevice("meta"):
        engine.learn(state, engine.look(state, images), context, images, given.is_positive, BARE)
        goodness_trace(engine, state, engine.look(state, images), context, engine.areas)
    with pytest.raises(AssertionError), OnDevice("meta"):
        engine.learn(state, engine.look(state, images), given.context or given.images, images, (True,), BARE)


def test_other_numbers_of_another_type_are_recorded_anew():
    plain = scene(model(*FIGURE_3))
    taped = recorded(plain)
    for given in (plain, taped):
        images = given.images
        given.images = {"retina": torch.ones(images["retina"].shape, dtype=torch.int64)}
        given.learn(BARE)
        given.images = images
        given.learn(BARE)
    assert_close(plain.state, taped.state, rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_part_of_a_cohort_is_recorded_once_beside_the_whole(precision):
    """A probe looks at everyone between the updates of those who still learn."""
    given = recorded(scene(model(*FIGURE_3), precision=precision))
    everyone = given.state
    given.state = everyone.select([0, 1])
    for _ in range(4):
        given.learn(BARE)
        given.engine.look(everyone, given.images)
    assert len(given.engine.recordings.kept) == 1


def test_what_was_played_last_is_forgotten_last():
    given = recorded(scene(model(*FIGURE_3)))
    states = [given.state.select([0, 1]) for _ in range(recording.KEPT)]
    for state in [given.state, *states[:-1], given.state, states[-1]]:
        replace(given, state=state).learn(BARE)
    kept = list(given.engine.recordings.kept)
    replace(given, state=given.state).learn(BARE)
    assert set(given.engine.recordings.kept) == set(kept)
