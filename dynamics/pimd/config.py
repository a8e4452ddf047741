"""Every setting of a path integral run, checked."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import field_validator, model_validator

from hff_ase.dynamics.run_config import DYNAMICS, INNER, START, RunSettings
from hff_ase.errors import ConfigError
from hff_ase.settings import absolute, parse_time, setting
from hff_ase.settings.common import OUTPUT

TRANSPORT = "How it runs"
EXTRA = "expected i-PI for path integrals, got none: pip install 'hff-ase[pimd]'"


class PIMDConfig(RunSettings):
    """Settings of a run of path integral dynamics; the mean of a committee moves the beads."""

    defaults = MappingProxyType(
        {"time": "1ps", "timestep": 0.5, "pressure": 1.0, "pdamp": 500.0, "output": "pimd"}
    )

    beads: int = setting(
        32, "Beads of the ring polymer; 1 is classical dynamics.", panel=DYNAMICS, ge=1
    )
    contract: int | None = setting(
        None,
        "Number of beads for the difference between the model and the inner model (ring- "
        "polymer contraction).",
        panel=INNER,
        shown="all",
        ge=1,
    )
    ensemble: Literal["nvt", "npt"] = setting(
        "nvt", "npt uses i-PI's isotropic barostat.", panel=DYNAMICS
    )
    thermostat: Literal["pile_l", "piglet", "trpmd"] = setting(
        "pile_l",
        "piglet needs matrices; trpmd moves the centroid without a thermostat (vibrational "
        "spectra, diffusion).",
        panel=DYNAMICS,
    )
    gle: str | None = setting(
        None,
        "File with the A and C elements of i-PI's thermostat input, one matrix per normal mode, "
        "for piglet.",
        panel=DYNAMICS,
        metavar="FILE",
    )
    start_from: str | None = setting(
        None,
        "i-PI checkpoint with the same number of beads to start from.",
        panel=START,
        metavar="FILE",
    )
    transport: Literal["ffdirect", "socket", "shm"] = setting(
        "ffdirect",
        "ffdirect runs in i-PI's process; socket and shm use separate drivers, restarted "
        "if they die.",
        panel=TRANSPORT,
    )
    drivers: int = setting(1, "Number of drivers, which share the beads.", panel=TRANSPORT, ge=1)
    extras: tuple[Literal["charges", "dipole"], ...] = setting(
        (), "Further quantities for the driver to write to files.", panel=OUTPUT, commas=True
    )
    rdf: tuple[str, ...] = setting(
        (),
        "Pairs of elements for radial distribution functions.",
        panel=OUTPUT,
        commas=True,
        metavar="O-H",
        shown="six with the lightest partners",
    )
    classical: str | None = setting(
        None,
        "Folder of a classical run (hff md, or one bead) to compare with.",
        panel=OUTPUT,
        metavar="FOLDER",
    )

    @field_validator("classical")
    @classmethod
    def _absolute_folder(cls, value: str | None) -> str | None:
        return None if value is None else absolute(value)

    @model_validator(mode="after")
    def _together(self) -> PIMDConfig:
        for name in ("structure", "model", "time", "pressure"):
            if getattr(self, name) is None:
                raise ValueError(f"expected a {name}, got none")
        if self.temperature == 0:
            raise ValueError("expected a temperature above 0 K for a thermostat, got 0")
        if (self.thermostat == "piglet") != (self.gle is not None):
            raise ValueError(
                "expected a file of matrices with the thermostat piglet, and only there, got "
                f"thermostat {self.thermostat} and {self.gle or 'none'}"
            )
        if self.thermostat == "trpmd" and self.ensemble == "npt":
            raise ValueError("expected ensemble nvt with the thermostat trpmd, got npt")
        self._check_split()
        if self.classical is not None and not Path(self.classical).is_dir():
            raise ValueError(f"expected the folder of a run at {self.classical}, got none")
        for pair in self.rdf:
            elements_of(pair)
        for path in (self.structure, self.gle, self.start_from):
            if path is not None and not Path(path).is_file():
                raise ValueError(f"expected a file at {path}, got none")
        return self

    def _check_split(self) -> None:
        split = self.contract is not None or self.inner_steps > 1
        if split != (self.inner_model is not None):
            raise ValueError(
                "expected an inner model with contract or inner_steps, and only there, got inner "
                f"model {self.inner_model or 'none'}, contract {self.contract}, inner_steps "
                f"{self.inner_steps}"
            )
        if self.outer_beads > self.beads:
            raise ValueError(f"expected contract up to {self.beads} beads, got {self.contract}")
        if self.drivers > 1 and self.transport == "ffdirect":
            raise ValueError(
                f"expected transport socket or shm with several drivers, got {self.drivers} drivers"
                " and ffdirect"
            )
        for beads in (self.beads, self.outer_beads):
            if beads % self.drivers:
                raise ValueError(
                    f"expected drivers that share {beads} beads evenly, got {self.drivers}"
                )

    @property
    def outer_beads(self) -> int:
        """Beads on which the full model is evaluated."""
        return self.contract or self.beads

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return max(1, round(parse_time(self.time or "") / self.timestep))


def elements_of(pair: str) -> tuple[str, str]:
    """Both elements of a pair such as ``O-H``.

    Raises:
        ConfigError: an invalid pair of elements.
    """
    from ase.data import atomic_numbers  # late: the help of the command line needs no ase

    parts = pair.split("-")
    if len(parts) != 2 or not all(part in atomic_numbers for part in parts):
        raise ConfigError(f"expected a pair of elements such as O-H, got {pair!r}")
    return parts[0], parts[1]
