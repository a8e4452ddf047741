"""What moves the atoms of a run: one small interface, ASE's integrators or our own engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.inner_potential import check_inner
from hff_ase.errors import ConfigError

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """The numbers of one time step, for statistics and guards.

    Attributes:
        potential, kinetic, conserved: eV (conserved is nan where there is none).
        temperature: K, of ``kinetic``.
        pressure: of atoms and potential, eV/Angstrom^3; nan where it is not known.
        tensor: the pressure tensor of atoms and potential in the order xx, yy, zz, yz, xz, xy,
            eV/Angstrom^3, its trace three times the pressure; empty where it is not known.
        volume: Angstrom^3; nan without a cell.
        displacement, farthest: the largest move of an atom in this step, less what a barostat did
            to all, Angstrom, and that atom.
        harmless: nobody needs a closer look.
        flow: amplitude of the flow of a liquid that is sheared, ASE velocity; nan elsewhere.
        terms: energies of the terms, eV.
    """

    potential: float
    kinetic: float
    conserved: float
    temperature: float
    pressure: float = float("nan")
    tensor: tuple[float, ...] = ()
    volume: float = float("nan")
    displacement: float = 0.0
    farthest: int = 0
    harmless: bool = True
    flow: float = float("nan")
    terms: Mapping[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """Moves one structure through the stages of a run."""

    @property
    def atoms(self) -> Atoms:
        """The structure after the last step, positions not wrapped."""

    @property
    def results(self) -> Mapping[str, Any]:
        """ASE's results for `atoms`: energy (eV), forces (eV/Angstrom), and more by calculator."""

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """Start a stage.

        Args:
            ensemble: its name, such as "npt".
            step: steps of the run so far.
            state: as `get_state` gave it, to resume a stage; empty for a new one.
        """

    def sample(self) -> Sample:
        """The numbers of the present state."""

    def advance(self, n_steps: int) -> list[Sample]:
        """Take one to ``n_steps`` steps; only the last may be anything but harmless.

        Raises:
            HFFError: a step fails; the atoms are left before or within it.
        """

    def get_state(self) -> Arrays:
        """Variables of thermostat and barostat by name, which a checkpoint keeps."""

    def get_surroundings(self) -> Arrays:
        """What else the next step depends on, bit for bit: where neighbours were searched."""


def choose_engine(config: MDConfig, calc: Any) -> MDConfig:
    """The settings with an engine that fits the calculator (and one is chosen for ``auto``).

    Raises:
        ConfigError: engine torch with a calculator that is not a HybridFF, an ensemble that only
            it has with engine ase, or inner steps that engine or calculator do not have.
    """
    ours = all(hasattr(calc, name) for name in ("potential", "device", "skin"))
    if config.engine == "torch" and not ours:
        raise ConfigError(
            f"expected a HybridFF for the torch engine, got {type(calc).__name__}; any ASE "
            "calculator runs with engine ase"
        )
    if config.engine == "auto":
        # the torch engine keys its noise with a seed of 32 bits
        fits = ours and config.seed < 2**32
        config = config.model_copy(update={"engine": "torch" if fits else "ase"})
    if config.engine == "ase" and any(stage.ensemble == "npt-scr" for stage in config.plan):
        raise ConfigError("expected the torch engine (a HybridFF) for npt-scr, got engine ase")
    if config.engine == "ase" and config.shear:
        raise ConfigError("expected the torch engine (a HybridFF) for shear, got engine ase")
    check_inner(config, calc)
    return config


def make_engine(
    atoms: Atoms, config: MDConfig, calc: Any, rng: np.random.Generator, surroundings: Arrays
) -> Engine:
    """The engine that the settings ask for, results at the atoms known.

    Args:
        atoms: with momenta; moved in place or copied.
        config: with an engine chosen.
        calc: the calculator.
        rng: of ASE's Langevin dynamics.
        surroundings: as `Engine.get_surroundings` gave them; empty to take the calculator as it is.
    """
    if config.engine == "torch":
        from hff_ase.dynamics.engine.torch.torch_engine import TorchEngine

        return TorchEngine(atoms, config, calc, surroundings)
    from hff_ase.dynamics.engine.ase.ase_engine import ASEEngine

    return ASEEngine(atoms, config, calc, rng, surroundings)
