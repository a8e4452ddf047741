"""Decomposed interaction energies against explicit evaluations, limits and each other."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

from hff_ase.cli.label import app
from hff_ase.errors import ConfigError, StructureError
from hff_ase.labels import EDALabeller, Label
from hff_ase.labels.almo import Complex, NotConvergedError
from hff_ase.labels.determinants import determinant_energy
from hff_ase.labels.ferf import response_space
from hff_ase.labels.response import FockResponse
from hff_ase.units import BOHR, HARTREE

pytest.importorskip("pyscf", reason="PySCF is an extra (labels)")
KCAL = 0.0433641042418
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "eda"
COMPONENTS = ("electrostatics", "pauli", "dispersion", "polarization", "charge_transfer")


def water_dimer(distance: float = 2.9) -> Atoms:
    """The first gives a hydrogen bond to the second along x."""
    giver = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    taker = Atoms("OHH", [[0, 0, 0], [0.45, -0.45, 0.75], [0.45, -0.45, -0.75]])
    taker.positions += [distance, 0, 0]
    return giver + taker


def labeller(functional: str = "hf", basis: str = "6-31g", **settings: Any) -> EDALabeller:
    settings = {"tolerance": 1e-11, "density_fitting": False, **settings}
    return EDALabeller(functional, basis, **settings)


def component(label: Label, name: str) -> float:
    assert label.ok, label.info
    return float(label.arrays[f"eda_{name}"])


@cache
def with_functional() -> Label:
    return labeller("pbe0", grid=0).label(water_dimer())


def molecules_of(atoms: Atoms, basis: str) -> list[Any]:
    """Both waters and the dimer, made here."""
    from pyscf import gto

    return [
        gto.M(
            atom=list(zip(part.symbols, part.positions / BOHR, strict=True)),
            basis=basis, unit="Bohr", verbose=0,
        )
        for part in (atoms[:3], atoms[3:], atoms)
    ]  # fmt: skip


def test_components_sum_to_the_supermolecular_interaction_energy() -> None:
    from pyscf import dft

    energies = []
    for part in molecules_of(water_dimer(), "6-31g"):
        mean_field = dft.RKS(part, xc="pbe0")
        mean_field.grids.level, mean_field.conv_tol = 0, 1e-11
        energies.append(mean_field.kernel())
    expected = (energies[2] - energies[0] - energies[1]) * HARTREE
    label = with_functional()
    assert component(label, "total") == pytest.approx(expected, abs=1e-7)
    assert sum(component(label, n) for n in COMPONENTS) == pytest.approx(expected, abs=1e-7)
    assert float(label.arrays["energy"]) == pytest.approx(energies[2] * HARTREE, abs=1e-6)


def test_signs_of_a_hydrogen_bond() -> None:
    label = with_functional()
    assert component(label, "pauli") > 0
    for name in ("electrostatics", "polarization", "charge_transfer", "total"):
        assert component(label, name) < 0, name


def test_frozen_energy_is_that_of_the_antisymmetrised_product() -> None:
    """Hartree-Fock energy of a determinant of orbitals that overlap, by Loewdin's rules."""
    from pyscf import scf

    first, second, both = molecules_of(water_dimer(2.6), "sto-3g")
    parts = [scf.RHF(one).run(conv_tol=1e-12) for one in (first, second)]
    n = first.nao
    orbitals = np.zeros((2 * n, 10))
    orbitals[:n, :5] = parts[0].mo_coeff[:, :5]
    orbitals[n:, 5:] = parts[1].mo_coeff[:, :5]
    inverse = np.linalg.inv(orbitals.T @ both.intor("int1e_ovlp") @ orbitals)
    core = orbitals.T @ (both.intor("int1e_kin") + both.intor("int1e_nuc")) @ orbitals
    two = np.einsum("pqrs,pi,qj,rk,sl->ijkl", both.intor("int2e"), *[orbitals] * 4, optimize=True)
    energy = 2.0 * np.einsum("ij,ji", core, inverse) + both.energy_nuc()
    energy += 2.0 * np.einsum("ijkl,ji,lk", two, inverse, inverse)
    energy -= np.einsum("ijkl,jk,li", two, inverse, inverse)
    expected = (energy - parts[0].e_tot - parts[1].e_tot) * HARTREE
    label = labeller("hf", "sto-3g").label(water_dimer(2.6))
    frozen = sum(component(label, n) for n in COMPONENTS[:3])
    assert frozen == pytest.approx(float(expected), abs=1e-7)


def test_classical_electrostatics_by_plain_integrals() -> None:
    """Coulomb energy of two densities and their nuclei from plain four-centre integrals."""
    from pyscf import scf

    first, second, both = molecules_of(water_dimer(), "sto-3g")
    n = first.nao
    densities = np.zeros((2, 2 * n, 2 * n))
    densities[0, :n, :n] = scf.RHF(first).run(conv_tol=1e-12).make_rdm1()
    densities[1, n:, n:] = scf.RHF(second).run(conv_tol=1e-12).make_rdm1()
    energy = np.einsum("pqrs,pq,rs", both.intor("int2e"), densities[0], densities[1])
    for density, other in ((densities[0], second), (densities[1], first)):
        for place, charge in zip(other.atom_coords(), other.atom_charges(), strict=True):
            with both.with_rinv_origin(place):
                energy -= charge * np.vdot(both.intor("int1e_rinv"), density)
    for at, z in zip(first.atom_coords(), first.atom_charges(), strict=True):
        apart = np.linalg.norm(second.atom_coords() - at, axis=1)
        energy += z * (second.atom_charges() / apart).sum()
    label = labeller("hf", "sto-3g").label(water_dimer())
    assert component(label, "classical_electrostatics") == pytest.approx(
        float(energy) * HARTREE, abs=1e-7
    )


@cache
def states() -> tuple[Complex, Any]:
    """A complex of Hartree-Fock with its parts."""
    from pyscf import dft

    first, second, both = molecules_of(water_dimer(2.7), "6-31g")
    parts = [dft.RKS(one, xc="hf").run(conv_tol=1e-12) for one in (first, second)]
    return Complex(dft.RKS(both, xc="hf"), parts, 1e-12, 60), parts


def test_orthogonal_fragments_make_the_frozen_density_at_least_energy() -> None:
    both, parts = states()
    found = both.split()
    frozen = both.frozen()
    np.testing.assert_allclose(sum(one.density for one in found), frozen.density, atol=1e-9)
    across = found[0].orbitals.T @ both.overlap @ found[1].orbitals
    assert np.abs(across).max() < 1e-9
    lowest = sum(one.total for one in found)
    rng = np.random.default_rng(0)
    for _ in range(3):  # any small turn costs energy, in second order
        turn = np.zeros((10, 10))
        turn[:5, 5:] = rng.normal(size=(5, 5))
        turn -= turn.T
        basis = np.concatenate([one.orbitals for one in found], axis=1)
        costs = []
        for size in (1e-3, 2e-3):
            values, vectors = np.linalg.eigh(1j * size * turn)
            turned = basis @ np.real(vectors @ np.diag(np.exp(-1j * values)) @ vectors.conj().T)
            energy = both.energy(turned[:, :5], 0).total + both.energy(turned[:, 5:], 1).total
            costs.append(energy - lowest)
        assert costs[0] > 0
        assert costs[1] / costs[0] == pytest.approx(4.0, rel=0.05)
    assert lowest > sum(part.e_tot for part in parts)


def test_polarisation_is_variational_in_its_space() -> None:
    """Occupied orbitals alone change nothing, more room gives more, all functions the most."""
    both, parts = states()
    frozen = both.frozen().total
    occupied = [part.mo_coeff[:, part.mo_occ > 0] for part in parts]
    assert both.polarised(occupied).total == pytest.approx(frozen, abs=1e-10)
    limited = both.polarised([response_space(part) for part in parts]).total
    everything = both.polarised([part.mo_coeff for part in parts]).total
    relaxed = both.whole.copy().run(conv_tol=1e-12).e_tot
    assert frozen - 1e-5 > limited > everything - 1e-9 > relaxed - 1e-8


def test_polarised_orbitals_are_the_best_ones() -> None:
    """Two He with two functions each: one angle per atom, searched by brute force."""
    from pyscf import dft, gto
    from scipy.optimize import minimize

    def helium(*places: float) -> Any:
        return gto.M(atom=[("He", (0, 0, z)) for z in places], basis="6-31g", verbose=0)

    parts = [dft.RKS(helium(z), xc="hf").run(conv_tol=1e-13) for z in (0.0, 1.5)]
    both = helium(0.0, 1.5)
    core, two = both.intor("int1e_kin") + both.intor("int1e_nuc"), both.intor("int2e")

    def energy(angles: np.ndarray) -> float:
        orbitals = np.zeros((4, 2))
        for k, (part, angle) in enumerate(zip(parts, angles, strict=True)):
            orbitals[2 * k : 2 * k + 2, k] = part.mo_coeff @ [np.cos(angle), np.sin(angle)]
        inverse = np.linalg.inv(orbitals.T @ both.intor("int1e_ovlp") @ orbitals)
        density = 2.0 * orbitals @ inverse @ orbitals.T
        repulsion = np.einsum("pqrs,pq,rs", two, density, density)
        repulsion -= 0.5 * np.einsum("pqrs,ps,qr", two, density, density)
        return float(np.vdot(core, density) + 0.5 * repulsion + both.energy_nuc())

    best = minimize(energy, np.zeros(2), method="Nelder-Mead",
                    options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 2000})  # fmt: skip
    found = Complex(dft.RKS(both, xc="hf"), parts, 1e-13, 60)
    polarised = found.polarised([part.mo_coeff for part in parts]).total
    assert found.frozen().total == pytest.approx(energy(np.zeros(2)), abs=1e-10)
    assert best.fun < energy(np.zeros(2)) - 1e-6
    assert polarised == pytest.approx(best.fun, abs=1e-9)


def test_far_apart_polarisation_is_that_by_a_point_charge() -> None:
    """He in the field of Li+ at 8 A: polarisation -alpha q^2/2r^4, alpha by finite fields."""
    from pyscf import gto, scf

    distance = 8.0
    helium = gto.M(atom="He 0 0 0", basis="6-31g**", verbose=0)
    energies = []
    for field in (1e-3, -1e-3, 0.0):
        mean_field = scf.RHF(helium)
        core = mean_field.get_hcore() + field * helium.intor("int1e_r")[2]
        mean_field.get_hcore = lambda *_, core=core: core
        mean_field.conv_tol = 1e-13
        energies.append(mean_field.kernel())
    alpha = -(energies[0] + energies[1] - 2 * energies[2]) / 1e-6
    atoms = Atoms("HeLi", [[0, 0, 0], [0, 0, distance]], info={"charge": 1})
    label = labeller("hf", "6-31g**", tolerance=1e-13).label(atoms)
    expected = -0.5 * alpha / (distance / BOHR) ** 4 * HARTREE
    assert component(label, "polarization") == pytest.approx(expected, rel=0.03)
    assert abs(component(label, "charge_transfer")) < 0.1 * abs(expected)
    assert abs(component(label, "dispersion")) < 1e-9  # Hartree-Fock has none


def test_atoms_in_any_order_give_the_same() -> None:
    atoms = water_dimer()
    order = np.random.default_rng(3).permutation(len(atoms))
    one = labeller("hf", "6-31g").label(atoms)
    other = labeller("hf", "6-31g").label(atoms[order])
    for name in COMPONENTS:
        assert component(one, name) == pytest.approx(component(other, name), abs=2e-7), name


def test_fitted_density_and_nonlocal_correlation_afterwards() -> None:
    """Both are good to 0.01 kcal/mol here."""
    ion = water_dimer()[:3] + Atoms("Li", [[-1.2, -1.5, 0]])
    ion.info["charge"] = 1
    exact = labeller("hf", "def2-svpd").label(ion)
    fitted = labeller("hf", "def2-svpd", density_fitting=True).label(ion)
    for name in COMPONENTS:
        assert component(fitted, name) == pytest.approx(component(exact, name), abs=5e-4), name
    neons = Atoms("Ne2", [[0, 0, 0], [0, 0, 3.0]])
    settings = {"grid": 0, "nonlocal_grid": 0, "tolerance": 1e-9, "density_fitting": True}
    own = labeller("wb97x-v", "6-31g", **settings).label(neons)
    later = labeller("wb97x-v", "6-31g", nonlocal_correlation="afterwards", **settings).label(neons)
    assert own.info["method_dispersion"] == "vv10"
    assert component(own, "dispersion") < 0
    for name in COMPONENTS:
        assert component(later, name) == pytest.approx(component(own, name), abs=2e-4), name


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="reference data are not beside the repository")
@pytest.mark.parametrize("number", [2, 10, 25])
def test_li_and_water_against_published_labels(number: int) -> None:
    """wB97X-V/def2-QZVPPD of Q-Chem, from 1.4 to 3.8 A, to 0.1 kcal/mol."""
    atoms = read(DATA / "li_water_scan.xyz", number)
    atoms.calc, atoms.info = None, {"charge": 1}
    with (DATA / "li_water_scan.csv").open() as file:
        row = list(csv.DictReader(file))[number]
    label = EDALabeller(
        "wb97x-v", "def2-qzvppd", grid=2, nonlocal_correlation="afterwards", tolerance=1e-8
    ).label(atoms)
    published = {
        "classical_electrostatics": "cls_elec", "dispersion": "disp", "polarization": "pol",
        "charge_transfer": "ct", "total": "int",
    }  # fmt: skip
    for ours, theirs in published.items():
        found = component(label, ours) / KCAL
        assert found == pytest.approx(float(row[theirs]) / 4.184, abs=0.1), ours


@pytest.mark.parametrize("functional", ["hf", "svwn", "pbe0", "wb97m-v"])
@pytest.mark.parametrize("fitted", [True, False])
def test_response_of_few_orbitals_is_that_of_the_whole_density(
    functional: str, fitted: bool
) -> None:
    """PySCF's response of density matrices, and energies of determinants without Fock matrices."""
    from pyscf import dft

    water = molecules_of(water_dimer(), "6-31g**")[0]
    mean_field = dft.RKS(water, xc=functional)
    mean_field.grids.level, mean_field.nlcgrids.level, mean_field.nlc = 0, 0, 0
    if fitted:
        mean_field = mean_field.density_fit()
    mean_field.kernel()
    response = FockResponse(mean_field)
    occupied, virtual = response.occupied, response.virtual
    kappa = np.random.default_rng(1).normal(size=(2, virtual.shape[1], occupied.shape[1]))
    density = 2.0 * np.einsum("pa,xai,qi->xpq", virtual, kappa, occupied)
    whole = mean_field.gen_response(hermi=1)(density + density.transpose(0, 2, 1))
    expected = np.einsum("pa,xpq,qi->xai", virtual, whole, occupied)
    np.testing.assert_allclose(response(kappa), expected, rtol=0, atol=1e-10)
    energy = determinant_energy(
        mean_field, occupied, mean_field.get_hcore(), float(water.energy_nuc())
    )
    beyond = 0.0
    if functional == "wb97m-v":  # not in the mean field
        beyond = mean_field._numint.nr_nlc_vxc(
            water, mean_field.nlcgrids.build(), functional, mean_field.make_rdm1()
        )[1]
    assert energy.total == pytest.approx(mean_field.e_tot + beyond, abs=1e-8)
    exchange = mean_field.get_k(water, mean_field.make_rdm1())
    expected_exchange = -0.25 * float(np.vdot(exchange, mean_field.make_rdm1()))
    assert energy.exact_exchange == pytest.approx(expected_exchange, abs=1e-8)


def test_orbitals_of_a_coarse_grid_hardly_change_energies() -> None:
    """Second order in their error: components of a functional to 0.01 kcal/mol."""
    found = {
        level: labeller("svwn", grid=2, orbital_grid=level, tolerance=1e-9).label(water_dimer())
        for level in (1, 2)
    }
    assert found[1].info["orbital_grid_level"] == 1
    for name in (*COMPONENTS, "total"):
        assert component(found[1], name) == pytest.approx(component(found[2], name), abs=4e-4)


def test_a_molecule_that_is_only_moved_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from hff_ase.labels import eda

    done: list[Any] = []
    monkeypatch.setattr(eda, "response_space", lambda m: (done.append(m), response_space(m))[1])
    scan, fresh = labeller("hf", "sto-3g"), labeller("hf", "sto-3g")
    scan.label(water_dimer(2.9))
    assert len(done) == 2
    moved = scan.label(water_dimer(3.1))
    assert len(done) == 2
    for name in COMPONENTS:
        expected = component(fresh.label(water_dimer(3.1)), name)
        assert component(moved, name) == pytest.approx(expected, abs=1e-7), name


def test_what_cannot_be_decomposed_is_said() -> None:
    one = labeller()
    with pytest.raises(StructureError, match="two molecules or more"):
        one.check(molecule("H2O"))
    ions = Atoms("LiCl", [[0, 0, 0], [0, 0, 4.0]], info={"charge": 0})
    with pytest.raises(StructureError, match=r"even number of electrons.*molecule Cl"):
        one.check(ions)
    pair = water_dimer()
    pair.info["charge"] = 2
    with pytest.raises(StructureError, match=r"sum to \+2 e .*H2O \+0, H2O \+0; .*formal_charges"):
        one.check(pair)
    labeller(formal_charges={"Cl": -1}).check(ions)
    ions.pbc, ions.cell = True, [9, 9, 9]
    with pytest.raises(StructureError, match="without a cell"):
        labeller(formal_charges={"Cl": -1}).check(ions)
    with pytest.raises(ConfigError, match="functional"):
        labeller("no-such-functional")


def test_a_fragment_that_does_not_converge_is_a_failed_label() -> None:
    label = labeller("hf", "sto-3g", max_cycles=1).label(water_dimer())
    assert not label.ok
    assert "no convergence" in label.info["error"]
    both, parts = states()
    short = Complex(both.whole, parts, 1e-12, 1)
    with pytest.raises(NotConvergedError):
        short.split()


def test_the_command_writes_components_and_goes_on(tmp_path: Path) -> None:
    heliums = Atoms("He2", [[0, 0, 0], [0, 0, 2.5]])
    ion = Atoms("HeLi", [[0, 0, 0], [0, 0, 2.0]])
    write(tmp_path / "dimers.extxyz", [heliums, ion])
    out = tmp_path / "eda.extxyz"
    command = ["eda", str(tmp_path / "dimers.extxyz"), "-o", str(out), "--workers", "0",
               "--functional", "hf", "--basis", "6-31g"]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    first, second = read(out, ":")
    assert second.info["charge"] == 1
    assert list(second.info["molecule_charges"]) == [0, 1]
    assert list(second.arrays["molecule"]) == [0, 1]
    assert first.info["eda_pauli"] > 0
    total = sum(second.info[f"eda_{name}"] for name in COMPONENTS)
    assert total == pytest.approx(second.info["eda_total"], abs=1e-9)
    made = {path: path.stat().st_mtime_ns for path in out.with_name("eda.extxyz.jobs").iterdir()}
    assert len(made) == 2
    next(iter(made)).unlink()  # what a killed run has not done
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    again = {path: path.stat().st_mtime_ns for path in made}
    assert sum(again[path] == made[path] for path in made) == 1
