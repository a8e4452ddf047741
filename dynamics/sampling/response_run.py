"""Transport at several values of a few scales: one run of properties for each, and a table."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from hff_ase.calculators.finetune.targets import QUANTITIES, Target
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.properties import Analysis, PropertyRun, Request
from hff_ase.dynamics.properties.request import REQUEST
from hff_ase.dynamics.sampling.config import ResponseSettings
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.parameter_vector import ParameterVector

PROPERTY = {"viscosity": "viscosity", "conductivity": "conductivity", "self_diffusion": "diffusion"}
SMALL = 60  # atoms of the structure that a model is saved with


Measure = Callable[[Path, Path, Sequence[Target], ResponseSettings], list[tuple[float, float]]]


class ResponseRun:
    """Runs with one parameter changed at a time; what the folder holds is continued.

    Args:
        calc: the model in the middle.
        targets: of transport; others need no such runs and are left out.
        folder: of models and runs.
        parameters: names or patterns; each is multiplied by each factor.
        settings: of the runs.
        measure: values and errors of targets of one liquid and pressure with a model, from runs in
            a folder.

    Raises:
        ConfigError: no target of transport, or unknown parameters.
    """

    def __init__(
        self,
        calc: HybridFF,
        targets: Sequence[Target],
        folder: Path,
        parameters: Sequence[str],
        settings: ResponseSettings | None = None,
        measure: Measure | None = None,
    ) -> None:
        self.calc, self.folder, self._measure = calc, folder, measure or by_properties
        self.targets = [t for t in targets if QUANTITIES[t.quantity].dynamic]
        if not self.targets:
            dynamic = ", ".join(name for name, what in QUANTITIES.items() if what.dynamic)
            raise ConfigError(f"expected targets of transport ({dynamic}), got none")
        self.theta = ParameterVector(calc.potential, parameters)
        self.parameters = tuple(parameters)
        self.settings = settings or ResponseSettings()
        folder.mkdir(parents=True, exist_ok=True)

    def points(self) -> list[tuple[float, ...]]:
        """Factors of all parameters, one of them changed at a time, the middle first."""
        n = len(self.theta)
        middle = (1.0,) * n
        found = dict.fromkeys([middle])
        for k in range(n):
            for factor in self.settings.values:
                found[(*middle[:k], factor, *middle[k + 1 :])] = None
        return list(found)

    def run(self) -> str:
        """Run what is missing; the table as text of a .csv file."""
        labels = self.theta.labels
        out = io.StringIO()
        columns = ["liquid", "quantity", "species", "temperature", "unit", *labels]
        table = csv.DictWriter(out, [*columns, "value", "error"], lineterminator="\n")
        table.writeheader()
        for number, factors in enumerate(self.points()):
            model, values = self._model(number, factors)
            for target, value, error in self._measured(number, model):
                row = {name: getattr(target, name) for name in columns[:4]}
                row |= {"unit": target.unit, "value": repr(value), "error": repr(error)}
                table.writerow(row | dict(zip(labels, map(repr, values), strict=True)))
        return out.getvalue()

    def _model(self, number: int, factors: tuple[float, ...]) -> tuple[Path, list[float]]:
        """The model with its parameters multiplied, and their values."""
        potential = copy.deepcopy(self.calc.potential)
        theta = ParameterVector(potential, self.parameters)
        theta.scale(factors)
        path = self.folder / f"model-{number:02d}.hff"
        if not path.exists():
            made = HybridFF(potential, self.calc.info, dtype=self.calc.dtype)
            made.save(path, [build_box(self.targets[0].liquid, SMALL, seed=0)])
        return path, theta.values()

    def _measured(self, number: int, model: Path) -> list[tuple[Target, float, float]]:
        """Every target with its value and error in the runs of a model."""
        found = []
        states = dict.fromkeys((t.liquid, t.pressure) for t in self.targets)
        for index, (liquid, bar) in enumerate(states):
            own = [t for t in self.targets if (t.liquid, t.pressure) == (liquid, bar)]
            place = self.folder / f"run-{number:02d}-{index:02d}"
            values = self._measure(place, model, own, self.settings)
            found += [(target, *each) for target, each in zip(own, values, strict=True)]
        return found

    def write(self, output: Path, table: str) -> None:
        """Write the table."""
        write_whole(output, table.encode())


def by_properties(
    place: Path, model: Path, targets: Sequence[Target], settings: ResponseSettings
) -> list[tuple[float, float]]:
    """Values and errors of targets of one liquid and pressure, by a run of ``hff properties``.

    Args:
        place: its folder; a run that is there is continued.
        model: the .hff file.
        targets: of transport.
        settings: of the run.

    Raises:
        ConfigError: the run is too short for one of them.
    """
    lengths = {"npt": settings.npt, "nvt": settings.nvt}
    if (place / REQUEST).exists():
        analysis = PropertyRun.resume(place, settings=lengths).run()
    else:
        request = Request.load(
            {
                "recipe": [targets[0].liquid],
                "temperature": list(dict.fromkeys(t.temperature for t in targets)),
                "pressure": targets[0].pressure,
                "property": list(dict.fromkeys(PROPERTY[t.quantity] for t in targets)),
                "model": str(model.resolve()),
                **lengths,
                "replicas": settings.replicas,
                "atoms": settings.atoms,
                "seed": settings.seed,
                "outside_domain": settings.outside_domain,
                "progress": False,
            }
        )
        analysis = PropertyRun.start(place, request).run()
    return [_value(analysis, target, place) for target in targets]


def _value(analysis: Analysis, target: Target, place: Path) -> tuple[float, float]:
    """Of a target in the runs of one model.

    Raises:
        ConfigError: the run is too short for it.
    """
    name = target.quantity + (f"/{target.species}" if target.species else "")
    for result in analysis.results:
        if abs(result.state.temperature - target.temperature) < 0.1 and name in result.quantities:
            found = result.quantities[name].found
            if found.refused:
                raise ConfigError(f"expected {target} of {place}, got none: {found.refused}")
            return float(found.value), float(found.error)
    known = sorted({key for result in analysis.results for key in result.quantities})
    raise ConfigError(f"expected {name} of {place}, got {', '.join(known)}")
