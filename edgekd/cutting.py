"""How the pruning stages are driven: in steps, and to a latency by cutting, quantizing and measuring in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from edgekd import host as hosts
from edgekd.bench import layers
from edgekd.bench.layers import Conditions
from edgekd.bench.measure import measure
from edgekd.compilation import compiled, shipped_precision
from edgekd.errors import ModelError
from edgekd.latency import Layer, Table
from edgekd.models import network
from edgekd.products import LatencyCut, Round
from edgekd.project import Project
from edgekd.prune.shapes import layers_of
from edgekd.prune.sparse import sparsify
from edgekd.prune.stage import prune, smallest
from edgekd.recipe import Distill, FeatureLoss, Precision, Prune, Sparse
from edgekd.runtime import Settings, settings_for
from edgekd.stage import Artifact, PlanEndsError
from edgekd.store import Store
from edgekd.target import Target
from edgekd.train.device import Place

_ROUNDS = 4
_CLOSE = 0.97, 1.005
"""The part of the asked latency that is near enough: noise of a quiet machine is about 1 %."""
_MATTERS = 0.005
"""A part of the latency below which another setting is not worth naming."""
Recovered = Callable[[Artifact], Artifact]


@dataclass(frozen=True)
class Cutter:
    """Cuts one network for a target."""

    store: Store
    project: Project
    data: Artifact
    place: Place
    target: Target

    def sparse(self, whole: Artifact, config: Sparse) -> Artifact:
        """Set weights to zero."""
        settings = config.model_copy(update={"recovery": Distill()})
        return self.store.run(sparsify, start=whole.path, code=self.project.student, config=settings)

    def channels(
        self, whole: Artifact, config: Prune, recovered: Recovered
    ) -> tuple[list[Artifact], LatencyCut | None]:
        """Cut channels and blocks in `steps` equal steps, each but the last with a short recovery."""
        settings = self._settings(config)
        cuts: list[Artifact] = []
        found: LatencyCut | None = None
        for number in range(config.steps):
            current = recovered(cuts[-1]) if cuts else whole
            if config.keep_latency is None:
                cuts.append(self._pruned(current, None, settings, _watched(config.recovery)))
                continue
            reached = found.chosen.measured if found else 1.0
            asked = config.keep_latency ** ((number + 1) / config.steps)
            cut, found = self._to_latency(whole, current, reached, asked, settings, _watched(config.recovery))
            cuts.append(cut)
        return cuts, found

    def check(self, whole: Artifact, config: Prune) -> None:
        """Raise ModelError, before anything trains, for a latency that no cut reaches by the table."""
        if config.keep_latency is None or self.project.rehearsal:
            return
        settings, here = self._settings(config), self.project.recipe.data.shape
        try:
            table = self._table(whole, settings)
        except PlanEndsError:
            return  # it is only planned: nothing is measured yet
        read = Table.model_validate_json(table.read_bytes())

        def least(update: dict[str, object]) -> float:
            changed = settings.model_copy(update=update)
            return smallest(whole.path, self.project.student, here, read, _watched(config.recovery), changed)

        if (found := least({})) > config.keep_latency:
            raise ModelError(
                f"prune.keep_latency = {config.keep_latency:g}: at least about {found:.3f} stays, however much is cut",
                f"raise prune.keep_latency to {found + 0.01:.2f} or more{_lower(settings, found, least)}",
            )

    def _settings(self, config: Prune) -> Prune:
        """Return what decides the bytes of one step: another recovery does not cut again."""
        part = {key: keep ** (1 / config.steps) for key, keep in config.budgets.items()}
        block = self.target.block if config.block == "target" else config.block
        return config.model_copy(update={**part, "block": block, "steps": 1, "between": 1, "recovery": Distill()})

    def _pruned(self, current: Artifact, table: Path | None, settings: Prune, watched: tuple[str, ...]) -> Artifact:
        return self.store.run(
            prune, start=current.path, code=self.project.student, train=self.data.path / "train", table=table,
            watched=watched, config=settings, place=self.place,
        )  # fmt: skip

    def _to_latency(
        self,
        whole: Artifact,
        current: Artifact,
        reached: float,
        asked: float,
        settings: Prune,
        watched: tuple[str, ...],
    ) -> tuple[Artifact, LatencyCut]:
        """Cut by the table, measure the file that would be shipped, correct the table's word, at most four times.

        `reached` is the part of the whole network's latency that the current one takes, `asked` the part to reach.
        """
        table = self._table(whole, settings)
        unpruned = self._compiled(whole)
        keep = min(1.0, asked / reached)
        rounds: list[tuple[Artifact, Round]] = []
        for _ in range(_ROUNDS):
            try:
                cut = self._pruned(current, table, settings.model_copy(update={"keep_latency": keep}), watched)
            except ModelError:
                if not rounds:
                    raise
                break  # measured is more than the table says, and the table's word cannot go lower
            predicted = float(cut.metrics["predicted"]["keep_latency"])
            ratio = self._ratio(unpruned / self._file(), self._compiled(cut) / self._file())
            rounds.append((cut, Round(keep, predicted * reached, ratio)))
            self.store.say(
                f"prune: round {len(rounds)} of at most {_ROUNDS}: {predicted * reached:.3f} of the latency predicted, "
                f"{ratio:.3f} measured, {asked:.3f} asked"
            )
            if _CLOSE[0] * asked <= ratio <= _CLOSE[1] * asked:
                break
            following = min(1.0, asked * predicted / ratio)
            if abs(following - keep) < 1e-4:
                break
            keep = following
        best, chosen = min(rounds, key=lambda each: abs(each[1].measured / asked - 1))
        why_not = hosts.why_not(self.target.device, hosts.this())
        found = tuple(each for _, each in rounds)
        return best, LatencyCut(self.target.name, asked, chosen, found, unpruned, why_not)

    def _table(self, whole: Artifact, settings: Prune) -> Path:
        """Return the file of the layers' latencies, measured once for this network's shapes on this machine."""
        module = network.load(whole.require(), self.project.student).module
        shapes = layers_of(module, self.project.recipe.data.shape)
        conditions = self._conditions(settings)
        asked = {
            "layers": {path: layer.model_dump(mode="json") for path, layer in shapes.items()},
            "settings": conditions.settings,
            "precision": conditions.precision,
            "activations": conditions.activations,
            "block": conditions.block,
            "machine": hosts.this().name,
            "onnxruntime": ort.__version__,
            "version": layers.VERSION,
        }
        return self.store.measured("prune-latencies", asked, lambda: self._measured(shapes, conditions))

    def _measured(self, shapes: dict[str, Layer], conditions: Conditions) -> str:
        distinct = len(set(shapes.values()))
        self.store.say(f"prune: measuring {distinct} shapes of layers at their widths, once")
        return layers.measure(shapes, conditions).model_dump_json(indent=1)

    def _conditions(self, settings: Prune) -> Conditions:
        activations = self.target.int8.activations if self.target.int8 else "uint8"
        block = settings.block if isinstance(settings.block, int) else self.target.block
        return Conditions(self._how(), self._precision(), block, activations)

    def _precision(self) -> Precision:
        precision = shipped_precision(self.project.recipe, self.target)
        # A CPU's half precision says nothing of a GPU's.
        return "float" if precision == "fp16" and not self._is_here() else precision

    def _is_here(self) -> bool:
        return hosts.why_not(self.target.device, hosts.this()) is None

    def _how(self) -> Settings:
        return settings_for(self.target.runtime, self._is_here())

    def _compiled(self, network_: Artifact) -> Path:
        """Return the folder of the files that would be shipped of a network, for the target."""
        found = compiled(self.store, self.project, network_, self.data.path / "calibration", self.target)
        return found.require()

    def _file(self) -> str:
        return f"{self._precision()}.onnx"

    def _ratio(self, unpruned: Path, pruned: Path) -> float:
        """Return what part of the unpruned network's latency the pruned one takes, in one interleaved run."""
        how, bench = self._how(), self.project.recipe.bench

        def measured() -> str:
            run = measure({"unpruned": unpruned, "pruned": pruned}, how, bench)
            return repr(1 / run.faster["pruned"].value)

        asked = {
            "unpruned": self.store.digest(unpruned),
            "pruned": self.store.digest(pruned),
            "settings": how,
            "machine": hosts.this().name,
            "onnxruntime": ort.__version__,
        }
        return float(self.store.choose("prune-latency", asked, measured))


def _watched(recovery: Distill | None) -> tuple[str, ...]:
    """Return the student's layers that recovery will look at."""
    if recovery is None:
        return ()
    return tuple(dict.fromkeys(term.student for term in recovery.terms if isinstance(term, FeatureLoss)))


def _lower(settings: Prune, least: float, least_of: Callable[[dict[str, object]], float]) -> str:
    """Name the settings by which less would stay than `least`, each alone."""
    asked: dict[str, tuple[bool, dict[str, object]]] = {
        "lower prune.block": (settings.block != 1, {"block": 1}),
        "lower prune.floor": (settings.floor > 0, {"floor": 0.0}),
        "leave out prune.protect": (bool(settings.protect), {"protect": ()}),
    }
    found = ((words, least_of(update)) for words, (is_set, update) in asked.items() if is_set)
    return "".join(f"; or {words}: then {part:.3f} stays" for words, part in found if part < least - _MATTERS)
