"""GFN-xTB labels with tblite: cheap, for molecules and periodic boxes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.errors import ConfigError
from hff_ase.labels.electrons import closed_shell_charge
from hff_ase.labels.labeller import Label, check_threads, failed
from hff_ase.structures import check_structure
from hff_ase.units import BOHR, HARTREE

__all__ = ["XTBLabeller"]

METHODS = {"GFN2-xTB": "d4", "GFN1-xTB": "d3bj"}  # and the dispersion that each contains
MIXING = (("damping 0.4", 0.4), ("damping 0.1", 0.1))


@dataclass(frozen=True)
class XTBLabeller:
    """Energy, forces, stress (boxes), Mulliken charges and dipole (molecules) of a closed shell.

    Attributes:
        method_name: "GFN2-xTB" or "GFN1-xTB".
        accuracy: of the SCF, in tblite's units (1 is its default; smaller is tighter).
        max_cycles: SCF cycles per strategy.
    """

    method_name: str = "GFN2-xTB"
    accuracy: float = 0.1
    max_cycles: int = 250

    def __post_init__(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            ConfigError: which, and what is expected.
        """
        if find_spec("tblite") is None:
            raise ConfigError("expected tblite for these labels: pip install 'hff-ase[labels]'")
        if self.method_name not in METHODS:
            raise ConfigError(
                f"expected a method among {', '.join(METHODS)}, got {self.method_name!r}"
            )

    @property
    def method(self) -> dict[str, Any]:
        """Settings on which the labels depend."""
        return {
            "code": "tblite",
            "method": self.method_name,
            "accuracy": self.accuracy,
            "max_cycles": self.max_cycles,
        }

    def check(self, atoms: Atoms) -> None:
        """Refuse an odd number of electrons, and periods in some directions only.

        Raises:
            StructureError: how many electrons, or what else is wrong.
        """
        check_structure(atoms)
        closed_shell_charge(atoms)

    def label(self, atoms: Atoms, threads: int = 1) -> Label:
        """Label ``atoms``; where no SCF converges, a failed label.

        tblite takes its ``threads`` from OMP_NUM_THREADS, which workers of the engine have set.
        """
        from tblite.exceptions import TBLiteRuntimeError

        check_threads(threads)
        self.check(atoms)
        start = time.perf_counter()
        facts: dict[str, Any] = {
            "method": self.method_name,
            "method_dispersion": METHODS[self.method_name],
            "code": "tblite",
            "code_version": version("tblite"),
            "charges_kind": "mulliken",
            "scf_accuracy": self.accuracy,
            "threads": threads,
            "scf_strategies": [],
        }
        error = ""
        for name, damping in MIXING:
            facts["scf_strategies"].append(name)
            try:
                result = self._calculate(atoms, damping)
            except TBLiteRuntimeError as reason:
                error = str(reason)
                continue
            facts |= {"converged": True, "scf_strategy": name}
            facts["wall_time_s"] = round(time.perf_counter() - start, 3)
            return Label("ok", _in_ase_units(atoms, result), facts)
        return failed(error, **facts, wall_time_s=round(time.perf_counter() - start, 3))

    def _calculate(self, atoms: Atoms, damping: float) -> Any:
        from tblite.interface import Calculator

        periodic = bool(atoms.pbc.all())
        calculator = Calculator(
            self.method_name,
            atoms.numbers,
            atoms.positions / BOHR,
            charge=float(closed_shell_charge(atoms)),
            lattice=np.asarray(atoms.cell) / BOHR if periodic else None,
            periodic=atoms.pbc if periodic else None,
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", self.accuracy)
        calculator.set("max-iter", self.max_cycles)
        calculator.set("mixer-damping", damping)
        return calculator.singlepoint()


def _in_ase_units(atoms: Atoms, result: Any) -> dict[str, np.ndarray]:
    arrays = {
        "energy": np.array(float(result.get("energy")) * HARTREE),
        "forces": -np.array(result.get("gradient")) * (HARTREE / BOHR),
        "charges": np.array(result.get("charges")),
    }
    if atoms.pbc.all():
        virial = np.array(result.get("virial")) * HARTREE  # dE/dstrain
        arrays["stress"] = 0.5 * (virial + virial.T) / atoms.get_volume()
    else:
        arrays["dipole"] = np.array(result.get("dipole")) * BOHR
    return arrays
