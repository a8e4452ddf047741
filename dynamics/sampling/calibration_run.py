"""A calibration: sample, fit, sample again once too few samples overlap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from hff_ase.calculators.finetune.calibrate import calibrate, pareto
from hff_ase.calculators.finetune.calibration import Calibration
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.responses import Response
from hff_ase.calculators.finetune.targets import QUANTITIES, Target, check_elements
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.sampling.config import SamplingSettings
from hff_ase.dynamics.sampling.lookup import elements_of, with_reference
from hff_ase.dynamics.sampling.sampler import sample, states_of
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.parameter_vector import ParameterVector
from hff_ase.training.fit_config import CalibrateSettings

SMALL = 200  # atoms of the structure that a model is saved with where nothing was sampled
REWEIGHTABLE = ("density", "compressibility", "rdf", "coordination")  # from the driver's own runs


class CalibrationRun:
    """Rounds of sampling and fitting; samples that are in the folder are used again.

    Args:
        calc: the model to begin with.
        targets: those whose value is the package's own are looked up.
        folder: of all rounds.
        parameters: that are fitted.
        rounds: at most; one more is made only where the samples do not reach the minimum.
        sampling: of the liquids, at constant pressure.
        settings: of each fit.
        frames: with forces.
        ensembles: samples of ``calc`` that exist already, instead of the first sampling.
        responses: of transport, for targets of it.

    Raises:
        ConfigError: targets beyond the model, or that need other samples than its own runs give.
    """

    def __init__(
        self,
        calc: HybridFF,
        targets: Sequence[Target],
        folder: Path,
        *,
        parameters: Sequence[str] = ("physical",),
        rounds: int = 1,
        sampling: SamplingSettings | None = None,
        settings: CalibrateSettings | None = None,
        frames: Sequence[Atoms] = (),
        ensembles: Sequence[Ensemble] = (),
        responses: Sequence[Response] = (),
    ) -> None:
        self.calc, self.targets = calc, with_reference(targets)
        self.responses = list(responses)
        known = calc.potential.elements
        check_elements(self.targets, elements_of(self.targets), known, calc.info.name)
        self.averages = [t for t in self.targets if not QUANTITIES[t.quantity].dynamic]
        other = [t for t in self.averages if t.quantity not in REWEIGHTABLE]
        if other and (rounds > 1 or not ensembles):
            raise ConfigError(
                f"expected targets among {', '.join(REWEIGHTABLE)} where this samples itself, got "
                f"{other[0]}: give the folders of runs for it, and one round"
            )
        self.folder, self.parameters, self.rounds = folder, tuple(parameters), rounds
        self.sampling = sampling or SamplingSettings()
        self.settings, self.frames = settings or CalibrateSettings(), list(frames)
        self.given = list(ensembles)
        self.calibrated = calc
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> Calibration:
        """Run all rounds; returns the result of the last."""
        ensembles: list[Ensemble] = []
        sampled_with: list[HybridFF] = []
        mean = ParameterVector(self.calc.potential, self.parameters).get()
        current = self.calc
        for number in range(self.rounds):
            new = self._samples(current, number)
            ensembles += new
            sampled_with += [current] * len(new)
            current, report = calibrate(
                current,
                ensembles,
                self.targets,
                self.parameters,
                settings=self.settings,
                frames=self.frames,
                sampled_with=sampled_with,
                prior_mean=mean,
                responses=self.responses,
            )
            if not report.needs_samples:
                break
        self.calibrated = current
        text = json.dumps(report.as_dict(), indent=1) + "\n"
        write_whole(self.folder / "calibration.json", text.encode())
        write_whole(self.folder / "calibration.md", report.markdown().encode())
        return report

    def pareto(self, weights: Sequence[float]) -> str:
        """A table of chi^2 and force errors over weights, from the first samples."""
        first = self._samples(self.calc, 0)
        front = pareto(
            self.calc, first, self.targets, self.parameters, self.frames, weights, self.settings
        )
        rows = ["weight | chi^2 | force RMSE (meV/A)", "--- | --- | ---"]
        for weight, report in front:
            rows.append(f"{weight:g} | {report.chi2[-1]:.3g} | {1e3 * report.force_rmse[-1]:.4g}")
        table = "\n".join(f"| {row} |" for row in rows)
        write_whole(self.folder / "pareto.md", (table + "\n").encode())
        return table

    def write(self, output: Path) -> None:
        """Write the calibrated model."""
        samples = self._samples(self.calc, 0)
        first = samples[0].atoms(0) if samples else build_box(self.targets[0].liquid, SMALL, seed=0)
        self.calibrated.save(output, [first])

    def _samples(self, calc: HybridFF, number: int) -> list[Ensemble]:
        if number == 0 and self.given:
            return self.given
        place = self.folder / f"round-{number}"
        return sample(calc, states_of(self.averages), place, self.sampling)
