"""The inside of a settle: what each hidden area hears, and how it answers.

What is the same for all versions of a case is computed once. An area's activity has a single version until something
reaches it that differs, and what it first hears from below it has heard in the bottom-up pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cortexff.engines.state import Activity, Percept
from cortexff.engines.workspace import Take
from cortexff.equations.normalization import length_normalization

if TYPE_CHECKING:
    from cortexff.engines.rate import RateEngine


class Settling:
    """One settle under way.

    response, activity, rings, places  as in a :class:`Moment`
    borrowed                           versions in which what areas hear from hidden areas above is of another case
    context                            what context areas are clamped to, as it is heard
    fixed                              area → drive from clamped areas
    moved                              areas that are no longer as the bottom-up pass left them
    """

    def __init__(
        self,
        engine: RateEngine,
        take: Take,
        weights: Mapping[str, Tensor],
        percept: Percept,
        context: Mapping[str, Tensor],
        gathered: int,
        borrowed: Sequence[bool] = (),
    ) -> None:
        self.engine, self.take, self.weights, self.percept, self.gathered = engine, take, weights, percept, gathered
        self.borrowed = [version for version, elsewhere in enumerate(borrowed) if elsewhere]
        from_above = {name for *_, name, kind in engine.net.edges(keys=True, data="kind") if kind == "top_down"}
        self.borrowing = from_above if self.borrowed else set()
        self.fixed: Activity = {}
        self.activity: Activity = {}
        self.response: Activity = {}
        self.rings: dict[str, Tensor] = {}
        self.places: dict[str, slice] = {}
        self.versions: dict[str, int] = {}  # in which an area is heard
        self.moved: set[str] = set()
        self.subjects, self.cases = next(iter(percept.activity.values())).shape[:2]
        self.context = {area: length_normalization(label.float()) for area, label in context.items()}
        most = max(len(borrowed), *(array.shape[2] for array in (*self.context.values(), *percept.activity.values())))
        for area in engine.areas:
            evoked = percept.activity[area]
            versions = len(borrowed) if self.borrowed else evoked.shape[2]
            self.activity[area] = self._room("activity", area, versions).copy_(evoked)
            self._clamp(area, percept.input_drive[area], self.context)
            for source, name in engine.sources[area]:
                if source in engine.areas:
                    rows = (gathered + 1) * self.cases * most
                    lent = self._take_for_others if name in self.borrowing else take
                    self.rings[name] = engine.projections[name].ring(lent, self.subjects, rows, engine.product_type)
        # Projections that share a ring hear by one copy.
        self.listeners = {
            area: {id(self.rings[name]): name for *_, name in engine.net.out_edges(area, keys=True)}.values()
            for area in engine.areas
        }

    def _clamp(self, area: str, drive: Tensor, clamped: Mapping[str, Tensor]) -> None:
        """Let an area's drive from clamped areas be a given one, and what these bring besides; it is not changed."""
        engine = self.engine
        self.fixed[area] = drive
        if versions := [clamped[source].shape[2] for source, _ in engine.sources[area] if source in clamped]:
            self.fixed[area] = self._room("fixed", area, max(drive.shape[2], *versions)).copy_(drive)
        for source, name in engine.sources[area]:
            if source in clamped:
                shape = (self.subjects, self.cases, clamped[source].shape[2], engine.units[area])
                self.fixed[area] += engine.bring(self.take, name, self.weights, clamped[source], shape)

    def show(self, images: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> None:
        """Let input areas be clamped to something else from now on; activity stays as it is."""
        clamped = {**{area: length_normalization(image.float()) for area, image in images.items()}, **self.context}
        for area in self.engine.areas:
            if any(source in images for source, _ in self.engine.sources[area]):
                bias = biases[area][:, None, None].expand(-1, self.cases, 1, -1)
                self._clamp(area, bias, clamped)

    def begin(self) -> None:
        """Let all areas be heard as they are now, in the first rows."""
        for area in self.engine.areas:
            self.pass_on(area, first=True)

    def pass_on(self, area: str, first: bool = False) -> None:
        """Let an area be heard as it is now, in the rows after those in which it was heard last, or in the first."""
        activity = self.activity[area]
        versions = self.versions[area] = activity.shape[2]
        heard = self.take(f"normalized/{self.engine.units[area]}/{versions}", activity.shape)
        length_normalization(activity, out=heard)
        start = self.places[area].stop if self.gathered and not first else 0
        self.places[area] = slice(start, start + self.cases * versions)
        for name in self.listeners[area]:
            rows = (self._of_others(heard) if name in self.borrowing else heard).flatten(1, 2)
            self.engine.projections[name].hear(self.rings[name], self.places[area], rows)

    def _of_others(self, heard: Tensor) -> Tensor:
        """The same with each case's borrowed versions taken from the case before it."""
        elsewhere = self.take(f"borrowed/{heard.shape[-1]}", heard.shape).copy_(heard)
        for version in self.borrowed:
            elsewhere[:, :, version] = heard[:, :, version].roll(1, dims=1)
        return elsewhere

    def _take_for_others(self, name: str, *how: Any) -> Tensor:
        """An array of its own: who borrows does not hear what others hear of the same area."""
        return self.take(f"borrowed/{name}", *how)

    def repeat(self, area: str) -> None:
        """Let an area's response be what the bottom-up pass evoked."""
        evoked = self.activity[area]
        self.response[area] = self._room("response", area, evoked.shape[2]).copy_(evoked)

    def respond(self, area: str) -> None:
        """Bring an area's response, and its damped activity, up to what it hears."""
        engine, percept = self.engine, self.percept
        heard = [(source, name) for source, name in engine.sources[area] if name in self.rings]
        versions = max(
            self.fixed[area].shape[2], self.activity[area].shape[2], *(self.versions[source] for source, _ in heard)
        )
        drive = self.fixed[area] = self._parted("fixed", area, self.fixed[area], versions)
        activity = self.activity[area] = self._parted("activity", area, self.activity[area], versions)
        response = self.response[area] = self._room("response", area, versions)
        for source, name in heard:
            if source in self.moved or name not in percept.brought:
                rows = self.rings[name][:, self.places[source]]
                brought = engine.projections[name].bring(self.take, self.weights[name], rows)
                brought = brought.view(self.subjects, self.cases, self.versions[source], engine.units[area])
            else:
                brought = percept.brought[name]
            drive = torch.add(drive, brought, out=response)
        torch.clamp(drive, min=0.0, out=response)
        activity.lerp_(response, 1.0 - engine.dynamics.damping)

    def _room(self, what: str, area: str, versions: int) -> Tensor:
        shape = (self.subjects, self.cases, versions, self.engine.units[area])
        return self.take(f"{what}/{area}/{versions}", shape)

    def _parted(self, what: str, area: str, array: Tensor, versions: int) -> Tensor:
        """The array itself, or a copy with each of the versions that from now on differ."""
        return array if array.shape[2] == versions else self._room(what, area, versions).copy_(array)
