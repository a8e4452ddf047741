"""ByteFF-Pol: published parameters against golden numbers, component by component."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from golden import golden_structure

from hff_ase.batch import AtomsBatch
from hff_ase.errors import CheckpointError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.importers.byteff import COULOMB, KCAL, KJ, SITE, from_byteff, read_molecule
from hff_ase.potential import HybridPotential
from hff_ase.terms.bonded import Bonded
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.excluded_coulomb import ExcludedCoulomb
from hff_ase.terms.exp6 import ChargeTransfer, Exp6
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.induced_dipoles import InducedDipoles

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "byteff"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the reference data of ByteFF-Pol are not beside the repository"
)
MOLECULES = ("EC", "DMC", "LI", "PF6", "ACT", "AFGBL")
NO_CUT = {"cutoff": 80.0, "switch_width": 0.0}


@cache
def entries() -> list[dict[str, Any]]:
    """All published molecules, from the one file that has them."""
    found = []
    for name, facts in json.loads((DATA / "parameters.json").read_text())["molecules"].items():
        entry: dict[str, Any] = {"name": name, "numbers": facts["numbers"]}
        for published, (ours, unit) in SITE.items():
            entry[ours] = [value * unit for value in facts[published]]
        entry["bonds"] = [row[:2] for row in facts["bonds"]]
        entry["bond_terms"] = [[*r[:2], r[3] * KJ / 100, r[2] * 10] for r in facts["bonds"]]
        entry["angle_terms"] = [[*r[:3], r[4] * KJ, math.radians(r[3])] for r in facts["angles"]]
        entry["proper_terms"] = [[*r[:4], *(k * KJ for k in r[4:])] for r in facts["propers"]]
        entry["improper_terms"] = [[*r[:4], 3 * r[5] * KJ] for r in facts["impropers"][::3]]
        found.append(entry)
    assert tuple(entry["name"] for entry in found) == MOLECULES
    return found


SOLVERS = pytest.mark.parametrize("solver", ["dense", "iterative"])


def potential(cut: dict[str, Any], method: str = "ewald", solver: str = "dense") -> HybridPotential:
    """Repulsion and dispersion apart, so that each has its own number."""
    molecules = entries()
    without = {"epsilon": 1e-30, "c6": 0.0}
    parts = {
        name: [{**e, name: [without[name]] * len(e["numbers"])} for e in molecules]
        for name in without
    }
    terms = {
        "charges": FixedCharges(molecules),
        "bonded": Bonded(molecules),
        "coulomb": Coulomb(method, 9.0, 1e-12, None, COULOMB),
        "excluded": ExcludedCoulomb(molecules, prefactor=COULOMB),
        "rep": Exp6(parts["c6"], **cut),
        "disp": Exp6(parts["epsilon"], wall=(1.5, 0.0), **cut),
        "ct": ChargeTransfer(molecules, **cut),
        "pol": InducedDipoles(
            molecules,
            prefactor=COULOMB,
            tolerance=1e-12,
            solver=solver,
            dipole_tolerance=1e-12,
            method=method,
        ),
    }
    return HybridPotential(terms).set_dtype(torch.float64).requires_grad_(False).eval()


def structure(data: Any, name: str = "") -> Atoms:
    return golden_structure(data, "param_charge_e", name)


COMPONENTS = {
    "bond": ["bonded.bonds"],
    "angle": ["bonded.angles"],
    "proper": ["bonded.propers"],
    "improper_itp": ["bonded.impropers"],
    "rep": ["rep"],
    "disp": ["disp"],
    "ct": ["ct"],
    "coul": ["coulomb", "excluded"],
    "pol": ["pol"],
}


def chosen(solver: str) -> dict[str, list[str]]:
    """All components, or the one that the iterative solver has a part in."""
    return COMPONENTS if solver == "dense" else {"pol": COMPONENTS["pol"]}


@SOLVERS
@pytest.mark.parametrize("file", ["monomers", "dimers", "clusters"])
def test_clusters_component_by_component(file: str, solver: str) -> None:
    """Energies to 1e-8 of the component (or 1e-9), forces to 1e-8, dipoles to 1e-9, in kcal/mol."""
    data = np.load(DATA / f"{file}.npz")
    names = sorted({key.split("/")[0] for key in data if key.endswith("/E_total_itp")})
    structures = [structure(data, name) for name in names]
    batch = AtomsBatch.from_atoms(structures)
    evaluator = Evaluator(potential(NO_CUT, solver=solver), trajectory=False)
    ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
    for component, parts in chosen(solver).items():
        found = evaluator.evaluate(batch, parts=parts)
        assert found.forces is not None
        forces = np.split(found.forces.numpy() / KCAL, ends)
        for name, energy, force in zip(names, found.energy.numpy() / KCAL, forces, strict=True):
            expected = float(data[f"{name}/E_{component}"])
            assert energy == pytest.approx(expected, rel=1e-8, abs=1e-8), (name, component)
            np.testing.assert_allclose(
                force, data[f"{name}/F_{component}"], rtol=0, atol=2e-8, err_msg=name
            )
    dipoles = np.split(evaluator.evaluate(batch).fields["dipoles"].numpy(), ends)
    for name, mu in zip(names, dipoles, strict=True):
        np.testing.assert_allclose(mu, data[f"{name}/mu_ind_eA"], rtol=0, atol=1e-9)


@SOLVERS
def test_the_periodic_box_component_by_component(solver: str) -> None:
    """Against converged lattice sums, forces and virial included."""
    data = np.load(DATA / "box.npz")
    atoms = structure(data, "")
    batch = AtomsBatch.from_atoms(atoms)
    cut = {"cutoff": 7.0, "switch_width": 0.0}
    evaluator = Evaluator(potential(cut, solver=solver), trajectory=False)
    volume = atoms.get_volume()
    for component, parts in chosen(solver).items():
        found = evaluator.evaluate(batch, parts=parts)
        prefix = "rc7/" if component in ("rep", "disp", "ct") else ""
        expected = float(data[f"{prefix}E_{component}"])
        assert float(found.energy) / KCAL == pytest.approx(expected, rel=1e-7, abs=1e-6), component
        assert found.forces is not None
        assert found.stress is not None
        np.testing.assert_allclose(
            found.forces.numpy() / KCAL, data[f"{prefix}F_{component}"], rtol=0, atol=1e-6
        )
        if f"{prefix}W_{component}" in data:
            virial = found.stress[0].numpy() * volume / KCAL
            np.testing.assert_allclose(virial, data[f"{prefix}W_{component}"], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("component", ["rep", "disp", "ct"])
def test_tails_of_the_periodic_box(component: str) -> None:
    data = np.load(DATA / "box.npz")
    batch = AtomsBatch.from_atoms(structure(data, ""))
    energies = []
    for tail in (False, True):
        cut = {"cutoff": 7.0, "switch_width": 0.0, "tail": tail}
        evaluator = Evaluator(potential(cut), trajectory=False)
        energies.append(float(evaluator.evaluate(batch, parts=[component]).energy) / KCAL)
    expected = float(data[f"rc7/E_lrc_{component}"])
    assert energies[1] - energies[0] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_importer_reads_published_folders() -> None:
    """The same numbers from the published files as from the table of facts."""
    folders = [DATA / "published" / name for name in ("EC", "DMC", "LI", "PF6")]
    known = {entry["name"]: entry for entry in entries()}
    for folder in folders:
        read = read_molecule(folder)
        expected = known[read["name"]]
        assert read["numbers"] == expected["numbers"]
        for _, (ours, _unit) in SITE.items():
            np.testing.assert_allclose(read[ours], expected[ours], rtol=1e-12)
        for rows in ("bond_terms", "angle_terms", "proper_terms", "improper_terms"):
            mine, theirs = (sorted(map(tuple, e[rows])) for e in (read, expected))
            assert len(mine) == len(theirs), (read["name"], rows)
            np.testing.assert_allclose(mine, theirs, rtol=1e-9)
    imported = from_byteff(folders).set_dtype(torch.float64)
    assert imported.elements == ("H", "Li", "C", "O", "F", "P")
    data = np.load(DATA / "clusters.npz")
    batch = AtomsBatch.from_atoms([structure(data, "i1"), structure(data, "i2")])
    found = Evaluator(imported, trajectory=False).evaluate(batch).energy / KCAL
    for k, name in enumerate(("i1", "i2")):  # a cluster is smaller than the cutoff but for its rim
        assert float(found[k]) == pytest.approx(float(data[f"{name}/E_total_itp"]), abs=0.5)
    with pytest.raises(CheckpointError, match=r"MISSING\.json"):
        read_molecule(DATA / "published" / "MISSING")


def test_atoms_in_any_order_and_unknown_molecules() -> None:
    data = np.load(DATA / "clusters.npz")
    folders = [DATA / "published" / name for name in ("EC", "DMC", "LI", "PF6")]
    whole = from_byteff(folders).set_dtype(torch.float64)
    atoms = structure(data, "i1")
    expected = Evaluator(whole, trajectory=False).evaluate(AtomsBatch.from_atoms(atoms))
    assert expected.forces is not None
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(atoms))
        shuffled = atoms[order]
        del shuffled.arrays["molecule"]
        found = Evaluator(whole, trajectory=False).evaluate(AtomsBatch.from_atoms(shuffled))
        assert float(found.energy) == pytest.approx(float(expected.energy), abs=1e-10)
        torch.testing.assert_close(found.forces, expected.forces[order], rtol=0, atol=1e-9)
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    with pytest.raises(StructureError, match=r"molecules with parameters \(EC, DMC.*got H2O"):
        Evaluator(whole).evaluate(AtomsBatch.from_atoms(water))
    atoms.info["charge"] = 0.0
    with pytest.raises(StructureError, match=r"total charge.*-1\.000 e\), got \+0\.000 e"):
        Evaluator(whole).evaluate(AtomsBatch.from_atoms(atoms))
