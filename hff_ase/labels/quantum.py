"""PySCF labels: Hartree-Fock and density functionals, on a GPU where GPU4PySCF is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.errors import ConfigError, StructureError
from hff_ase.labels import quantum_properties as properties
from hff_ase.labels.chelpg import MARGIN, chelpg_charges, chelpg_points, chelpg_radii
from hff_ase.labels.dispersion import d3_dispersion
from hff_ase.labels.electrons import closed_shell_charge
from hff_ase.labels.labeller import Label, check_threads, failed
from hff_ase.labels.quantum_config import MeanFieldSettings, PySCFSettings
from hff_ase.structures import check_structure
from hff_ase.units import BOHR, HARTREE

__all__ = ["PySCFLabeller"]


class PySCFLabeller(PySCFSettings):
    """Energy, forces, dipole, quadrupole, charges and the potential around a closed-shell molecule.

    Args:
        functional, basis: see `PySCFSettings`; the only ones that can be given by place.
        settings: the others, by name.

    Raises:
        ConfigError: a setting that makes no sense, or a program that is not installed.
    """

    def __init__(
        self, functional: str | None = None, basis: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**level_given(functional, basis), **settings)
        check_program()
        check_functional(self.functional)
        if self.device == "cuda" and find_spec("gpu4pyscf") is None:
            raise ConfigError("expected GPU4PySCF for device='cuda', but it is not installed")

    @property
    def method(self) -> dict[str, Any]:
        """Settings on which the labels depend (memory and device are not among them)."""
        return {"code": "pyscf", **self.model_dump(exclude={"memory", "device"})}

    def check(self, atoms: Atoms) -> None:
        """Refuse a periodic or open-shell structure, or an element without basis functions."""
        if atoms.pbc.any():
            raise StructureError("expected a molecule without a cell for PySCF, got a periodic box")
        check_structure(atoms)
        closed_shell_charge(atoms)
        if self.charges == "chelpg":
            chelpg_radii(atoms.numbers)
        self._molecule(atoms)

    def label(self, atoms: Atoms, threads: int = 1) -> Label:
        """Label ``atoms`` with a number of ``threads``; if no SCF converges, a failed label."""
        from pyscf import lib

        check_threads(threads)
        lib.num_threads(threads)
        start = time.perf_counter()
        molecule = self._molecule(atoms)
        mean_field, strategy, tried = converge(lambda: self._mean_field(molecule))
        facts = self._facts() | {"scf_strategies": tried, "threads": threads}
        if mean_field is None:
            seconds = round(time.perf_counter() - start, 3)
            return failed("no SCF strategy converged", **facts, wall_time_s=seconds)
        gradient = properties.host(mean_field.nuc_grad_method().kernel())  # [n, 3] Ha/bohr
        energy = float(mean_field.e_tot)
        arrays = self._properties(mean_field, atoms)
        if self.dispersion != "none":
            extra, extra_gradient, version = d3_dispersion(atoms, self.functional)
            energy, gradient = energy + extra, gradient + extra_gradient
            facts |= {"dispersion_energy_ev": extra * HARTREE, "dispersion_version": version}
        arrays["energy"] = np.array(energy * HARTREE)
        arrays["forces"] = -gradient * (HARTREE / BOHR)
        facts |= {
            "converged": True,
            "scf_strategy": strategy,
            "scf_cycles": int(getattr(mean_field, "cycles", 0) or 0),
            "wall_time_s": round(time.perf_counter() - start, 3),
        }
        return Label("ok", arrays, facts)

    def _molecule(self, atoms: Atoms) -> Any:
        return quantum_molecule(atoms, self.basis, closed_shell_charge(atoms), self.memory)

    def _mean_field(self, molecule: Any) -> Any:
        """An unconverged mean field, on the GPU where wanted."""
        from pyscf import dft, scf

        if self.functional.lower() == "hf":
            mean_field = scf.RHF(molecule)
        else:
            mean_field = dft.RKS(molecule, xc=self.functional)
            mean_field.grids.level = self.grid
        if self.density_fitting:
            mean_field = mean_field.density_fit()
        mean_field.conv_tol, mean_field.max_cycle = self.tolerance, self.max_cycles
        return mean_field.to_gpu() if self._on_gpu() else mean_field

    def _on_gpu(self) -> bool:
        if self.device == "cpu" or find_spec("gpu4pyscf") is None:
            return False
        import cupy

        return self.device == "cuda" or cupy.cuda.runtime.getDeviceCount() > 0

    def _properties(self, mean_field: Any, atoms: Atoms) -> dict[str, np.ndarray]:
        """Multipoles, charges and potential, from the density on the host."""
        density = properties.host(mean_field.make_rdm1())
        molecule = mean_field.mol
        charge = closed_shell_charge(atoms)
        arrays = properties.multipoles(molecule, density)
        orbitals = properties.host(mean_field.mo_coeff)
        occupied = orbitals[:, properties.host(mean_field.mo_occ) > 0]
        arrays["charges_mulliken"] = properties.mulliken_charges(molecule, density)
        arrays["charges_iao"] = properties.iao_charges(molecule, occupied)
        if self.charges == "chelpg":
            points = chelpg_points(atoms, self.esp_spacing)
            potential = properties.potential(molecule, density, points)
            dipole = arrays["dipole"] if self.constrain_dipole else None
            arrays |= {"esp_points": points, "esp": potential}
            arrays["charges_chelpg"] = chelpg_charges(atoms, points, potential, charge, dipole)
        arrays["charges"] = arrays.pop(f"charges_{self.charges}")
        return arrays

    def _facts(self) -> dict[str, Any]:
        """What every label says about how it was made."""
        facts = level_facts(self, self.dispersion) | {
            "charges_kind": self.charges,
            "esp_grid": f"cubic {self.esp_spacing:g} A, within {MARGIN:g} A of nuclei",
            "device": "cuda" if self._on_gpu() else "cpu",
        }
        if self._on_gpu():
            import gpu4pyscf

            facts["gpu4pyscf_version"] = gpu4pyscf.__version__
        return facts


def level_given(functional: str | None, basis: str | None) -> dict[str, Any]:
    """Those of the two that are given, as settings by name."""
    by_place = {"functional": functional, "basis": basis}
    return {name: one for name, one in by_place.items() if one is not None}


def check_program() -> None:
    """Refuse labels where PySCF is not installed.

    Raises:
        ConfigError: says how to install it.
    """
    if find_spec("pyscf") is None:
        raise ConfigError("expected PySCF for these labels: pip install 'hff-ase[labels]'")


def level_facts(settings: MeanFieldSettings, dispersion: str) -> dict[str, Any]:
    """What every label says about its level of theory.

    Args:
        settings: of the mean field.
        dispersion: what the energy contains where the functional has no nonlocal correlation.
    """
    import pyscf

    functional = settings.functional.upper()
    nonlocal_correlation = has_nonlocal_correlation(settings.functional)
    return {
        "method": f"{functional}/{settings.basis}",
        "method_dispersion": "vv10" if nonlocal_correlation else dispersion,
        "code": "pyscf",
        "code_version": pyscf.__version__,
        "functional": settings.functional,
        "basis": settings.basis,
        "density_fitting": settings.density_fitting,
        "dft_grid_level": None if functional == "HF" else settings.grid,
        "scf_tolerance_hartree": settings.tolerance,
    }


def quantum_molecule(atoms: Atoms, basis: str, charge: int, memory: int) -> Any:
    """A molecule of PySCF, its core electrons beyond Kr by potentials where the basis has them.

    Raises:
        StructureError: an element without basis functions.
    """
    from pyscf import gto

    heavy = bool((atoms.numbers > 36).any()) and basis.lower().startswith("def2")
    try:
        return gto.M(
            atom=list(zip(atoms.symbols, (atoms.positions / BOHR).tolist(), strict=True)),
            basis=basis,
            ecp=basis if heavy else {},
            charge=charge,
            unit="Bohr",  # PySCF's Angstrom is another CODATA year's
            verbose=0,
            max_memory=memory,
        )
    except (KeyError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StructureError(f"expected a basis {basis} for the structure: {reason}") from None


def converge(
    make: Callable[[], Any], density: np.ndarray | None = None
) -> tuple[Any, str, list[str]]:
    """The first converged mean field or None, its strategy, all that were tried.

    Args:
        make: an unconverged mean field.
        density: to start from.
    """
    tried: list[str] = []
    for name, prepare in strategies():
        mean_field = prepare(make())
        tried.append(name)
        try:
            mean_field.kernel(dm0=density)
        except (np.linalg.LinAlgError, ArithmeticError):
            continue  # a density that went astray: the next strategy starts afresh
        if mean_field.converged and np.isfinite(float(mean_field.e_tot)):
            return mean_field, name, tried
        last = mean_field.make_rdm1()
        density = last if bool((abs(last) < 1e6).all()) else None
    return None, "", tried


def strategies() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Ways to converge an SCF, in the order in which they are tried."""

    def shifted(mean_field: Any) -> Any:
        mean_field.level_shift, mean_field.damp = 0.3, 0.3
        mean_field.diis_start_cycle = 4
        mean_field.max_cycle *= 2
        return mean_field

    yield "diis", lambda mean_field: mean_field
    yield "diis, level shift 0.3 Ha, damping 0.3", shifted
    yield "second order", lambda mean_field: mean_field.newton()


def check_functional(functional: str) -> None:
    """Refuse what libxc does not know, and dispersion hidden in the functional's name.

    Raises:
        ConfigError: what is wrong with it.
    """
    if functional.lower() == "hf":
        return
    lower = functional.lower()
    if "-d3" in lower or "-d4" in lower or lower.endswith("-d"):
        raise ConfigError(
            "expected a functional without dispersion (dispersion='d3bj' adds it), got "
            f"{functional!r}"
        )
    from pyscf import dft

    try:
        dft.libxc.parse_xc(functional)
        dft.libxc.xc_type(functional)
    except (KeyError, ValueError):
        raise ConfigError(f"expected a functional that libxc knows, got {functional!r}") from None


def has_nonlocal_correlation(functional: str) -> bool:
    if functional.lower() == "hf":
        return False
    from pyscf import dft

    return bool(dft.libxc.is_nlc(functional))
