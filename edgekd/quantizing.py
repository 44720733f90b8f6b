"""How the int8 stages are driven: repair, calibrate, quantize; and more effort while an accuracy budget is missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import onnx

from edgekd import host as hosts
from edgekd.quantize import sensitivity as sensitivities
from edgekd.quantize import settled
from edgekd.quantize.calibrate import COUNTED, calibrate, grids_of
from edgekd.quantize.divergence import Measure
from edgekd.quantize.entry import Entry, of_pixels
from edgekd.quantize.feed import Inputs
from edgekd.quantize.observing import load
from edgekd.quantize.repair import repair
from edgekd.quantize.sensitivity import Cost, sensitivity
from edgekd.quantize.stage import quantize
from edgekd.recipe import Calibrator, Quantize
from edgekd.stage import Artifact
from edgekd.store import Store
from edgekd.target import Int8
from edgekd.workload.normalisation import Normalisation


@dataclass(frozen=True)
class Aim:
    """What candidates must reach to ship."""

    keeps: Callable[[Artifact], bool]
    """Whether candidates keep the accuracy budget."""
    excess: Callable[[Artifact], float]
    """How many times what they may lose candidates lose."""
    measure: Measure
    """By what nodes are ranked: the measure that decides what ships."""


Rounding = Literal["nearest", "optq"]
_TRIES = 4
"""How often nodes are kept in float, unless the effort is thorough."""
_BLOCKS = 8
_SLACK = 2.0
"""What is lost need not add up exactly: learned rounding is tried where it would come this near to the budget."""


@dataclass(frozen=True)
class Way:
    """How a graph becomes integers with no node in float."""

    calibrator: Calibrator
    rounding: Rounding

    def __str__(self) -> str:
        return f"{self.calibrator} ranges, {'learned rounding' if self.rounding == 'optq' else 'rounding to nearest'}"


def _needed(costs: Sequence[Cost], excess: float) -> int:
    """Return how many of the most damaging units must go to float, if what they cost adds up.

    One more than there are where all of them would not do.
    """
    total = sum(cost.lost for cost in costs)
    left = total
    for count, cost in enumerate(costs, start=1):
        left -= cost.lost
        if cost.nodes and left * excess <= total:
            return count
    return len(costs) + 1


@dataclass(frozen=True)
class Quantizer:
    """Makes int8 candidates of one float graph for one policy."""

    store: Store
    graph: Path
    samples: Path
    policy: Int8
    config: Quantize
    entry: Entry | None = None
    """How the graph is fed; None: pixels, into the front that `export` put on."""
    tuned: Path | None = None
    """What `finetune` made of the repaired graph: rounded as it was trained, without more repairs."""

    @property
    def _calibrator(self) -> Calibrator:
        """What is tried first; its pass over the images serves the others too."""
        return self.config.calibrators()[0]

    def first(self) -> Artifact:
        """Return the candidates with the cheap repairs, or all that the recipe asks for by name."""
        return self._made(self._ways()[0], ())

    def improved(self, aim: Aim) -> Artifact | None:
        """Return the least changed candidates that keep the budget, or None where none do.

        Other ranges come first, then learned rounding where it can help; then, in the way whose answers are nearest to
        float's, the most damaging nodes stay in float, as few as will do.
        """
        if self.config.effort == "quick":
            return None
        best, *others = self._ways()
        for way in others:
            if aim.keeps(tried := self._tried(way)):
                return tried
            best = max(best, way, key=self._sqnr)
        if self._may_learn(best, aim):
            learned = Way(best.calibrator, "optq")
            if aim.keeps(tried := self._tried(learned)):
                return tried
            best = max(best, learned, key=self._sqnr)
        return self._mixed(best, aim)

    def _may_learn(self, way: Way, aim: Aim) -> bool:
        """Whether learned rounding is to be tried: not where the budget is missed with weights that are exact."""
        if self.config.rounding != "auto" or self.tuned is not None or self.policy.weights != "int8":
            return False
        if self.config.effort == "thorough":
            return True
        by_weights = sensitivities.part_of_weights(self.sensitivity(way.calibrator, self._blocks(), aim.measure))
        return aim.excess(self._made(way, ())) * (1 - by_weights) <= _SLACK

    def _ways(self) -> list[Way]:
        """Return what is tried before more is learned: rounded as the recipe says, under each calibrator."""
        rounding: Rounding = "optq" if self.config.rounding == "optq" else "nearest"
        first, *others = self.config.calibrators()
        if self.tuned is not None:
            return [Way(first, "nearest")]  # on the grids that it was trained on
        return [Way(first, rounding), *(Way(other, rounding) for other in others)]

    def _tried(self, way: Way) -> Artifact:
        self.store.say(f"quantize: too much is lost: {way}")
        return self._made(way, ())

    def _sqnr(self, way: Way) -> float:
        return float(self._made(way, ()).metrics["sqnr"])

    def _mixed(self, way: Way, aim: Aim) -> Artifact | None:
        """Keep the most damaging nodes in float: more of them until the budget is kept, then fewer again."""
        is_thorough = self.config.effort == "thorough"
        excess = aim.excess(self._made(way, ()))
        ranked = self._ranked(way, aim, excess)
        nodes = [node for cost in ranked for node in cost.nodes]
        half = len(self._nodes) // 2
        most = 1 if is_thorough else _needed(ranked, excess)
        left = len(nodes) if is_thorough else _TRIES
        if most > min(half, len(nodes)):
            self.store.say("quantize: too much is lost, and no few nodes in float would mend it")
            return None
        fewest, found = 0, None
        while found is None and left > 0 and most <= min(half, len(nodes)):
            if aim.keeps(tried := self._mixed_of(way, nodes[:most])):
                found = tried
            else:
                fewest, most = most, most * 2
            left -= 1
        while found is not None and left > 0 and most - fewest > 1:
            middle = (fewest + most) // 2
            if aim.keeps(tried := self._mixed_of(way, nodes[:middle])):
                found, most = tried, middle
            else:
                fewest = middle
            left -= 1
        return found

    def _mixed_of(self, way: Way, in_float: Sequence[str]) -> Artifact:
        self.store.say(f"quantize: too much is lost: {len(in_float)} of {len(self._nodes)} nodes stay in float")
        return self._made(way, tuple(in_float))

    def _ranked(self, way: Way, aim: Aim, excess: float) -> tuple[Cost, ...]:
        """Return what single nodes cost, the most damaging first: all, or those of the blocks that cost most.

        Nothing where even half of the blocks in float would not do. The cost of the other blocks comes last, as one.
        """
        if self.config.effort == "thorough":
            units = tuple((node,) for node in self._nodes)
            return sensitivities.costs(self.sensitivity(way.calibrator, units, aim.measure))
        blocks = sensitivities.costs(self.sensitivity(way.calibrator, self._blocks(), aim.measure))
        worst = _needed(blocks, excess)
        if worst > (len(blocks) + 1) // 2:
            return ()
        units = tuple((node,) for block in blocks[:worst] for node in block.nodes)
        single = sensitivities.costs(self.sensitivity(way.calibrator, units, aim.measure))
        others = sum(block.lost for block in blocks[worst:])
        return (*single, Cost((), others))

    @cached_property
    def _nodes(self) -> tuple[str, ...]:
        return sensitivities.nodes_of(settled.load(self.repaired().require()))

    def _blocks(self) -> tuple[tuple[str, ...], ...]:
        """Return the nodes in blocks of neighbours: a first look at where int8 hurts."""
        nodes = self._nodes
        size = max(1, -(-len(nodes) // _BLOCKS))
        return tuple(nodes[start : start + size] for start in range(0, len(nodes), size))

    def with_in_float(self, nodes: tuple[str, ...]) -> Artifact:
        """Return the candidates with these nodes in float, rounded as cheaply as can be: for their latency."""
        return self._made(Way(self._calibrator, "nearest"), nodes)

    def fed(self) -> Inputs:
        """Return one sample as the graph takes it, or as many as it takes at once: what is timed."""
        feed = (self.entry or of_pixels()).feed(self.samples)
        few = feed.few(1, onnx.load(self.graph, load_external_data=False))
        return few.take(0, few.count)

    def grids(self) -> dict[str, tuple[float, int, int, int]]:
        """Return (scale, zero point, least, most) of every activation, for `finetune`."""
        repaired = self.repaired()
        observed = self._observed(repaired).require()
        found = settled.load(repaired.require())
        grids = grids_of(load(observed), found, self.policy, self.config.for_ranges(self._calibrator))
        return {name: (grid.scale, grid.zero_point, grid.least, grid.most) for name, grid in grids.items()}

    def in_float(self) -> tuple[str, ...]:
        """Return the nodes that stay in float in any case, for `finetune`."""
        return tuple(sorted(settled.load(self.repaired().require()).in_float))

    def normalisation(self) -> Normalisation:
        """Return how pixels become the input of the repaired graph."""
        entry = settled.load(self.repaired().require()).entry
        if entry.kind == "pixels":
            return Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        mean, std = float(entry.zero_point), 1 / entry.scale
        return Normalisation(mean=(mean, mean, mean), std=(std, std, std))

    def sensitivity(self, calibrator: Calibrator, units: tuple[tuple[str, ...], ...], measure: Measure) -> Path:
        """Return the file of what the integers of each unit, a node or several, cost."""
        repaired = self.repaired()
        config = self.config.for_ranges(calibrator).model_copy(update={"effort": self.config.effort})
        return self.store.run(
            sensitivity, repaired=repaired.path, observed=self._observed(repaired).path, samples=self.samples,
            policy=self.policy, config=config, units=units, classes=measure.classes, metric=measure.metric,
            kernels=hosts.kernels(),
        ).require()  # fmt: skip

    def _made(self, way: Way, in_float: tuple[str, ...]) -> Artifact:
        repaired = self.repaired()
        config = self.config.for_rounding(way.calibrator, way.rounding)
        if self.tuned is not None:
            config = config.model_copy(update={"correct_bias": False})
        return self.store.run(
            quantize, graph=self.graph, repaired=self.tuned or repaired.path, observed=self._observed(repaired).path,
            samples=self.samples, policy=self.policy, config=config, in_float=in_float,
            kernels=hosts.kernels(),
        )  # fmt: skip

    def repaired(self) -> Artifact:
        """Return the float graph that is quantized: its front absorbed, its ranges evened out where that helps."""
        return self.store.run(
            repair, graph=self.graph, samples=self.samples, entry=self.entry, policy=self.policy,
            config=self.config.for_repair(), kernels=hosts.kernels(),
        )  # fmt: skip

    def _observed(self, repaired: Artifact) -> Artifact:
        counting = COUNTED[self._calibrator]
        return self.store.run(
            calibrate, repaired=repaired.path, samples=self.samples, counting=counting, kernels=hosts.kernels()
        )  # fmt: skip
