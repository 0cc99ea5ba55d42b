"""The plan of a run: all stages of a protocol, in order."""

from __future__ import annotations

from dataclasses import dataclass

from cortexff.errors import CortexffError
from cortexff.protocol.schedule import Protocol, stage_lengths
from cortexff.protocol.settings import Stage


@dataclass(frozen=True)
class Segment:
    """One stage of one condition of one variant."""

    variant: str
    condition: str
    stage_name: str
    stage: Stage
    updates: int
    first: bool  # the condition's first stage
    last: bool  # and its last
    before: int  # updates of the condition that come before it

    @property
    def group(self) -> str:
        return f"{self.variant}/{self.condition}"


def plan(protocol: Protocol, training_cases: int) -> list[Segment]:
    """All stages of a protocol in the order in which they are run."""
    per_epoch = training_cases // protocol.stimuli.minibatch
    if per_epoch == 0:
        raise CortexffError(
            f"stimuli.minibatch {protocol.stimuli.minibatch} exceeds the {training_cases} training images: lower it"
        )
    segments = []
    for variant in protocol.variants:
        stages = list(stage_lengths(protocol.variant(variant), per_epoch))
        before = 0
        for place, (condition, name, stage, updates) in enumerate(stages):
            first = place == 0 or stages[place - 1][0] != condition
            last = place + 1 == len(stages) or stages[place + 1][0] != condition
            before = 0 if first else before
            segments.append(Segment(variant, condition, name, stage, updates, first, last, before))
            before += updates
    return segments
