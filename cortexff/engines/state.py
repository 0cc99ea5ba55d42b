"""What a rate engine is told, what it changes, and what it shows while it runs.

Every array has a leading axis of *subjects*: a cohort is simulated at once and its members never meet. Then come the
*cases* (images), the *versions* of a case (the label it is shown with: right and wrong, or all ten candidates; or real
and hybrid) and the units of an area. An axis of length 1 is shared: an image that is the same in all versions is
projected once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from torch import Tensor

from cortexff.equations.plasticity import RESIDUALS

Activity = dict[str, Tensor]  # area → (subjects, cases, versions, units)


@dataclass(frozen=True)
class RateDynamics:
    """How areas move (§3.4); the defaults are the paper's.

    damping      share of the previous activity that is kept in a step
    steps        steps after the bottom-up pass; with 0 the net is feed-forward, and that pass is its one moment (§3.3)
    alternating  update even areas from odd ones, then odd from even, as in the paper's preliminary experiment
    precision    of the products, ``float32``, ``bfloat16`` or ``auto``, the faster one (``rate.best_precision``);
                 weights, sums and updates are float32
    device       ``cpu`` or ``cuda``
    """

    damping: float = 0.3
    steps: int = 8
    alternating: bool = False
    precision: str = "float32"
    device: str = "cpu"

    @property
    def moments(self) -> int:
        """Times that an area responds in a settle."""
        return self.steps or 1


@dataclass(frozen=True)
class Plasticity:
    """How weights change; the constants are those of the author's released code unless a protocol says otherwise.

    learning_rate       ε for input of length 1 (``plasticity.unit_input_rate``)
    gradient_average    share of the running average of the gradient that is kept in an update
    weight_cost         share of the weights that is taken off, times the learning rate
    peer_normalization  strength of the pull towards the mean activity of the area (note 9)
    activity_average    share of the running mean activity that is kept in an update
    saturation          name in ``plasticity.RESIDUALS``: what becomes of learning from what is classified correctly
    sleeping            areas that learn from negative data; None: all of them
    """

    learning_rate: float
    gradient_average: float = 0.9
    weight_cost: float = 0.001
    peer_normalization: float = 0.03
    activity_average: float = 0.9
    saturation: str = "log_sigmoid"
    sleeping: tuple[str, ...] | None = None

    @property
    def rule(self) -> tuple:
        """What of it decides on the gradient."""
        return (self.peer_normalization, self.saturation, self.sleeping)

    def residual(self, area: str, log_odds: Tensor, is_positive: Tensor) -> Tensor:
        """How wrong the blocks of an area are about their input (``plasticity.residual``); 0 where it does not learn.

        log_odds     (subjects, cases, versions, blocks)
        is_positive  (versions, 1), 1 for real data
        """
        found = RESIDUALS[self.saturation](log_odds, is_positive)
        return found if self.sleeping is None or area in self.sleeping else found * is_positive


@dataclass
class RateState:
    """Everything an engine changes. Each dictionary maps a name to an array with a leading axis of subjects.

    weights, weight_averages  projection → (subjects, target units, source units), local ones in tiles
                              (``projections.Local``); running average of the gradient
    biases, bias_averages     area → (subjects, units)
    mean_activity             area → (subjects, units), running mean over real cases
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    weight_averages: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    bias_averages: dict[str, Tensor] = field(default_factory=dict)
    mean_activity: dict[str, Tensor] = field(default_factory=dict)

    def arrays(self) -> dict[str, Tensor]:
        """Every array under a flat name such as ``weights/V1→V2``; :meth:`from_arrays` is the exact inverse."""
        return {
            f"{part.name}/{name}": array for part in fields(self) for name, array in getattr(self, part.name).items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> RateState:
        state = cls()
        for path, array in arrays.items():
            part, name = path.split("/", 1)
            getattr(state, part)[name] = array
        return state

    def select(self, members: Sequence[int]) -> RateState:
        """A copy with some members of the cohort, in the order given."""
        return self.from_arrays({path: array[list(members)] for path, array in self.arrays().items()})

    def replace(self, members: Sequence[int], part: RateState) -> None:
        """Put the members of a smaller cohort back in their places."""
        theirs = part.arrays()
        for path, array in self.arrays().items():
            array[list(members)] = theirs[path]


@dataclass
class Percept:
    """What the bottom-up pass leaves behind; each array is (subjects, cases, versions of the image, units).

    input_drive  area → drive from the input, and bias
    brought      projection between hidden areas → what it added to the drive
    activity     area → activity that is evoked
    """

    input_drive: Activity
    brought: dict[str, Tensor]
    activity: Activity


@dataclass
class Part:
    """Some of the cases of an update, or some of their versions, as ``RateEngine.learn`` takes them."""

    percept: Percept
    images: Activity
    is_positive: Sequence[bool]
    context: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Moment:
    """One update of some areas within a settle. The arrays are used again by the next one: copy what you keep.

    step      1, 2, ...; of a feed-forward net, 1 is the bottom-up pass itself
    group     number, within the step, of the areas updated together
    areas     those areas
    response  area → rectified drive (its sign, once learning has seen the moment)
    activity  area → damped activity before normalization
    rings     projection → what it heard, normalized, in the last steps (``projections``)
    places    area → rows of the rings in which the moment's areas heard it
    spikes    area → spikes of its units since the image came, (subjects, cases, versions); where units spike
    judged    area → activity whose goodness is judged in learning, where it is not what is learned from

    As long as nothing has reached an area that differs between versions, it has one version for them all.
    """

    step: int
    group: int
    areas: Sequence[str]
    response: Activity
    activity: Activity
    rings: Mapping[str, Tensor]
    places: Mapping[str, slice]
    spikes: Mapping[str, Tensor] = field(default_factory=dict)
    judged: Mapping[str, Tensor] = field(default_factory=dict)
