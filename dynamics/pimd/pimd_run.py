"""A path integral run: its folder, i-PI started and resumed, progress and results."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import write
from rich.console import Console

from hff_ase.dynamics.pimd.comparison import Classical, read_beads, read_classical
from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.pimd.folder import (
    CONFIG,
    GLE,
    INPUT,
    PLOT,
    RDF,
    SUMMARY,
    PIMDFolder,
    signed,
    unedited,
)
from hff_ase.dynamics.pimd.force_fields import START
from hff_ase.dynamics.pimd.input_xml import (
    BEAD,
    PREFIX,
    PROPERTIES,
    input_xml,
    load_start,
)
from hff_ase.dynamics.pimd.plot import plot
from hff_ase.dynamics.pimd.processes import DriverLostError, PIMDProcesses, program
from hff_ase.dynamics.pimd.rdf import (
    Distributions,
    distributions,
    lightest_pairs,
    write_table,
)
from hff_ase.dynamics.pimd.relaxing import relax
from hff_ase.dynamics.pimd.results import (
    read_properties,
    summarize,
)
from hff_ase.dynamics.pimd.trajectories import write_extended
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.simulation.stopping import stop_on_signals
from hff_ase.dynamics.start.domains import check_domains
from hff_ase.errors import SimulationError, StoppedError, StructureError
from hff_ase.files import write_whole
from hff_ase.model_file import domain_in, read_file
from hff_ase.models import model_path
from hff_ase.settings import to_yaml

FEW_FRAMES = 10  # of a bead, from which a radial distribution function is mostly noise
MOST_LOSSES = 3  # of the driver, in one run
LOOK = 0.25  # seconds between two looks at i-PI


class PIMDRun:
    """One run in one folder.

    Args:
        config: all settings.
        atoms: the starting structure in i-PI's orientation.
    """

    def __init__(self, config: PIMDConfig, atoms: Atoms) -> None:
        self.config, self.atoms = config, atoms
        self.files = PIMDFolder(Path(config.output))

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return self.files.path

    @property
    def address(self) -> str:
        """Name of the socket between i-PI and the driver, of this folder alone."""
        return self.files.address

    def __getitem__(self, name: str) -> Path:
        return self.files[name]

    @classmethod
    def create(cls, config: PIMDConfig, force: bool = False) -> PIMDRun:
        """Write input.xml and all that it needs; nothing is started.

        Args:
            config: all settings.
            force: replace a run that is in the folder.

        Raises:
            SimulationError: the folder holds a run (without ``force``).
            StructureError: the structure cannot be read, or the model does not know an element.
            ConfigError, CheckpointError: settings or models that cannot be used.
        """
        run = cls(config, load_start(str(config.structure)))
        check_known_to_models(config, run.atoms)
        models = filter(None, (config.model, *config.committee))
        domains = {name: domain_in(read_file(model_path(name))[0]) for name in models}
        check_domains(domains, [run.atoms], [config.temperature], config.outside_domain)
        text = input_xml(config, run.atoms, run.address)
        if run[INPUT].exists():
            if not force:
                raise SimulationError(
                    f"expected an output folder without a run, got {run.folder}; continue it with "
                    f"--resume {run.folder}, replace it with --force, or choose another --output"
                )
            with run.files.locked():
                for path in run.files.own():
                    path.unlink()
        run.folder.mkdir(parents=True, exist_ok=True)
        if config.minimize and config.start_from is None:
            relax(run.atoms, config)
        columns = ["symbols", "positions", "masses"]
        columns += ["molecule"] if "molecule" in run.atoms.arrays else []
        run.atoms.set_masses(run.atoms.get_masses())
        write(run[START], run.atoms, columns=columns, format="extxyz")
        if config.gle is not None:
            shutil.copyfile(config.gle, run[GLE])
        run[CONFIG].write_text(signed(to_yaml(config.model_dump(mode="json"))), encoding="utf-8")
        run[INPUT].write_text(text, encoding="utf-8")
        return run

    @classmethod
    def open(cls, folder: str | Path, classical: str | None = None) -> PIMDRun:
        """The run in a folder, to be resumed; ``classical``: another run to compare with.

        Raises:
            SimulationError: there is none, or its config.yaml was edited, which i-PI would ignore:
                it continues from its own checkpoint.
        """
        path = Path(folder)
        if not (path / INPUT).exists() or not (path / CONFIG).exists():
            raise SimulationError(f"expected a folder with a run, got {path}")
        settings = yaml.safe_load(unedited(path / CONFIG))
        # the inputs were taken into the folder; the originals may have gone
        kept = {"structure": str(path / START), "start_from": None, "output": str(path)}
        if settings.get("gle"):
            kept["gle"] = str(path / GLE)
        if classical is not None:
            kept["classical"] = classical
        config = PIMDConfig.load(settings | kept)
        return cls(config, load_start(str(path / START)))

    def run(self, progress: bool = True, console: Console | None = None) -> dict[str, Any]:
        """Run i-PI from the start or from the newest checkpoint, to the end; the summary.

        Args:
            progress: show a progress bar.
            console: where to show it.

        Raises:
            SimulationError: i-PI or the driver failed; the message says why.
            StoppedError: a signal stopped it; it can be resumed.
        """
        program("i-pi")
        with self.files.locked() as lock:
            started = time.perf_counter()
            for lost in range(MOST_LOSSES):
                first, source = self.files.newest_start()
                if first >= self.config.n_steps:
                    break
                try:
                    with PIMDProcesses(
                        self.config, self.folder, source, self.address, (lock,)
                    ) as both:
                        self._watch(both, first, progress, console)
                    break
                except DriverLostError:
                    if lost == MOST_LOSSES - 1:
                        raise
            return self.finish(time.perf_counter() - started)

    def _watch(
        self, both: PIMDProcesses, first: int, progress: bool, console: Console | None
    ) -> None:
        config = self.config
        screen = Screen(progress, config.n_steps, config.timestep, console)
        with stop_on_signals() as request, screen:
            screen.begin(first)
            shown = first
            while both.running():
                row = self.files.last_row()
                if row and row["step"] > shown:
                    shown = int(row["step"])
                    density = row.get("density{g/cm3}", float("nan"))
                    temperature = row["temperature{kelvin}"]
                    screen.running(shown, config.ensemble, temperature, density)
                if request.signal_name is not None:
                    both.stop()
                    raise StoppedError(
                        f"stopped by {request.signal_name}; continue with --resume {self.folder}",
                        request.signal_name,
                    )
                time.sleep(LOOK)

    def finish(self, seconds: float) -> dict[str, Any]:
        """Summarise what i-PI wrote: summary.yaml, trajectories with cell, rdf.dat and a plot.

        Args:
            seconds: that the run took.

        Raises:
            SimulationError: i-PI ended before its last step.
        """
        columns = read_properties(self[PROPERTIES])
        summary = summarize(self.config, self.atoms, columns, seconds)
        summary["rdf_frames"] = None
        given = self.config.classical
        classical = None if given is None else read_classical(given)
        if classical is not None:
            summary["classical"] = classical.summary()
        write_extended(self.folder, self.atoms)
        functions = self._distributions(classical, summary)
        write_whole(self[SUMMARY], to_yaml(summary).encode())
        plot(self[PLOT], columns, len(self.atoms), classical, *functions)
        if summary["status"] != "finished" and self.config.max_hours is None:
            raise SimulationError(
                f"i-PI ended after {summary['steps']} of {self.config.n_steps} steps (see "
                f"{self['ipi.log']}); continue with --resume {self.folder}"
            )
        return summary

    def _distributions(
        self, classical: Classical | None, summary: dict[str, Any]
    ) -> tuple[Distributions | None, Distributions | None]:
        """Radial distribution functions of this run and of the classical one, also in a table.

        The summary says how many frames of each bead they are of.
        """
        frames = read_beads(self.folder, self.atoms)
        if not frames or not self.atoms.pbc.all():
            return None, None
        pairs = self.config.rdf or lightest_pairs(self.atoms.get_chemical_symbols())
        beads = len(list(self.folder.glob(f"{PREFIX}.{BEAD}_*.xyz")))
        summary["rdf_frames"] = len(frames) // max(beads, 1)
        own = distributions(frames, pairs)
        other = None
        if classical is not None and classical.frames:
            other = distributions(classical.frames, pairs)
        write_table(self[RDF], own, other)
        return own, other


def check_known_to_models(config: PIMDConfig, atoms: Atoms) -> None:
    """Refuse a structure with elements that a model does not know, before anything is written.

    Raises:
        StructureError: names model and element.
    """
    for name in filter(None, (config.model, *config.committee, config.inner_model)):
        known = read_file(model_path(name))[0]["elements"]
        for number in sorted(set(atoms.numbers.tolist())):
            symbol = chemical_symbols[number]
            if known is not None and symbol not in known:
                raise StructureError(
                    f"model {name} knows {' '.join(known)}; structure holds {symbol}"
                )
