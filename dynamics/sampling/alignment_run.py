"""An alignment: sample, train, sample again with the new model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hff_ase.calculators.finetune.align import MODEL, align
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.targets import Target, check_elements
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.dynamics.sampling.config import SamplingSettings
from hff_ase.dynamics.sampling.lookup import elements_of, with_reference
from hff_ase.dynamics.sampling.sampler import sample, states_of
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.training.fit_config import AlignSettings

SETTINGS = "settings.json"


class StopTraining:
    """Ends a training between two steps after a signal."""

    def __init__(self, request: StopRequest) -> None:
        self._request = request

    def check(self) -> None:
        """Raises StoppedError."""
        if self._request.signal_name is not None:
            raise self._request.error("while it was aligned: repeat the command to continue")


class AlignmentRun:
    """Rounds of sampling and training in a folder; running it again continues where it stopped.

    Args:
        calc: the model to begin with.
        targets: densities; those whose value is the package's own are looked up.
        folder: of all rounds.
        parameters: that are trained.
        rounds: how often to sample and train; earlier samples are kept in use.
        sampling: of the liquids.
        training: of each round.
        ensembles: samples of ``calc`` that exist already, instead of the first sampling.

    Raises:
        ConfigError: targets beyond the model, or another alignment in the folder.
    """

    def __init__(
        self,
        calc: HybridFF,
        targets: Sequence[Target],
        folder: Path,
        *,
        parameters: Sequence[str] = ("heads",),
        rounds: int = 1,
        sampling: SamplingSettings | None = None,
        training: AlignSettings | None = None,
        ensembles: Sequence[Ensemble] = (),
    ) -> None:
        if rounds < 1:
            raise ConfigError(f"expected at least one round, got {rounds}")
        self.calc, self.targets = calc, with_reference(targets)
        known = calc.potential.elements
        check_elements(self.targets, elements_of(self.targets), known, calc.info.name)
        self.folder, self.parameters, self.rounds = folder, tuple(parameters), rounds
        self.sampling = sampling or SamplingSettings()
        self.training = training or AlignSettings()
        self.given = list(ensembles)
        folder.mkdir(parents=True, exist_ok=True)
        self._check_settings()

    def run(self, stop: StopRequest | None = None) -> HybridFF:
        """Run all rounds; returns the aligned calculator."""
        current = self.calc
        ensembles: list[Ensemble] = []
        sampled_with: list[HybridFF] = []
        for number in range(self.rounds):
            place = self.folder / f"round-{number}"
            place.mkdir(exist_ok=True)
            new = self._samples(current, place, number)
            ensembles += new
            sampled_with += [current] * len(new)
            current = align(
                self.calc,
                ensembles,
                self.targets,
                parameters=self.parameters,
                settings=self.training,
                sampled_with=sampled_with,
                folder=place,
                stop=None if stop is None else StopTraining(stop),
            )
        return current

    def write(self, output: Path) -> None:
        """Copy the model of the last round to the output."""
        last = self.folder / f"round-{self.rounds - 1}"
        write_whole(output, (last / MODEL).read_bytes())
        shutil.copy(last / "alignment.md", output.with_suffix(".md"))

    def _samples(self, calc: HybridFF, place: Path, number: int) -> list[Ensemble]:
        if number == 0 and self.given:
            return self.given
        return sample(calc, states_of(self.targets), place / "sampling", self.sampling)

    def _check_settings(self) -> None:
        """Refuse a folder that holds another alignment."""
        own: Mapping[str, Any] = {
            "model": self.calc.info.name,
            "targets": [str(target) for target in self.targets],
            "values": [target.value for target in self.targets],
            "parameters": list(self.parameters),
            "sampling": self.sampling.model_dump(),
        }
        file = self.folder / SETTINGS
        if file.exists():
            before = json.loads(file.read_text())
            changed = [name for name, value in own.items() if before.get(name) != value]
            if changed:
                raise ConfigError(
                    f"expected the {changed[0]} of the alignment in {self.folder}, got others: "
                    "use another folder"
                )
        else:
            write_whole(file, (json.dumps(own, indent=1) + "\n").encode())
