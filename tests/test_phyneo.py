"""PhyNEO's forms: published parameters against golden numbers, component by component."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.evaluator import Evaluator
from hff_ase.importers.phyneo import COULOMB, KJ, molecule_of
from hff_ase.potential import HybridPotential
from hff_ase.terms.fixed_multipoles import FixedMultipoles
from hff_ase.terms.multipole_induction import MultipoleInduction
from hff_ase.terms.multipoles import Multipoles
from hff_ase.terms.slater import SlaterPairs
from hff_ase.terms.slater_dispersion import SlaterDispersion

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "phyneo"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the reference data of PhyNEO are not beside the repository"
)
COMPONENTS = {
    "pol": "induction",
    "perm": "multipoles",
    "ex": "slater.exchange",
    "es": "slater.penetration",
    "spol": "slater.induction",
    "sdisp": "slater.dispersion",
    "dhf": "slater.charge_transfer",
    "qqtt": "slater.charges",
    "disp_undamped": "dispersion.undamped",
    "dispdamp": "dispersion.damping",
}
LATTICE = ("perm", "pol", "disp_undamped")


@cache
def entries() -> list[dict[str, Any]]:
    """Published molecules of the reference structures, from the table of facts."""
    facts = json.loads((DATA / "parameters.json").read_text())
    found = []
    for name in ("LiA", "PF6", "ECA", "DMC"):
        residue = facts["residues"][name]
        atoms = [(symbol, kind) for _, kind, symbol in residue["atoms"]]
        found.append(molecule_of(name, atoms, residue["bonds"], facts["types"], True))
    return found


def potential(cutoff: float, solver: str = "dense") -> HybridPotential:
    """All terms with pairs cut sharply."""
    molecules = entries()
    cut: dict[str, Any] = {"cutoff": cutoff, "switch_width": 0.0}
    terms = {
        "moments": FixedMultipoles(molecules),
        "multipoles": Multipoles(
            molecules, cutoff=7.0, tolerance=1e-13, method="ewald", prefactor=COULOMB
        ),
        "induction": MultipoleInduction(
            molecules,
            cutoff=7.0,
            tolerance=1e-13,
            method="ewald",
            prefactor=COULOMB,
            solver=solver,
            dipole_tolerance=1e-12,
        ),
        "slater": SlaterPairs(molecules, prefactor=COULOMB, **cut),
        "dispersion": SlaterDispersion(molecules, tolerance=1e-13, method="ewald", **cut),
    }
    return HybridPotential(terms).set_dtype(torch.float64).requires_grad_(False).eval()


def structure(data: Any, name: str = "") -> Atoms:
    prefix = f"{name}/" if name else ""
    cell = data[f"{prefix}cell_A"]
    atoms = Atoms(data[f"{prefix}numbers"], data[f"{prefix}positions_A"])
    if cell.any():
        atoms.set_cell(cell)
        atoms.pbc = True
    atoms.set_array("molecule", data[f"{prefix}molecule_id"])
    atoms.info["charge"] = float(np.round(data[f"{prefix}param_q_e"].sum()))
    return atoms


def test_moments_of_molecules_in_space() -> None:
    """Frames as published, to the last digits."""
    for file in ("dimers", "clusters"):
        data = np.load(DATA / f"{file}.npz")
        names = sorted({key.split("/")[0] for key in data})
        batch, ends = together(data, names)
        fields = Evaluator(potential(7.0), trajectory=False).evaluate(batch).fields
        for ours, theirs in (
            ("permanent_dipoles", "dip_global_eA"),
            ("permanent_quadrupoles", "theta_global_eA2"),
        ):
            for name, found in zip(names, np.split(fields[ours].numpy(), ends), strict=True):
                expected = data[f"{name}/{theirs}"]
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=name)


def together(data: Any, names: list[str]) -> tuple[AtomsBatch, np.ndarray]:
    """A batch of structures with their known bonds (some are stretched), and where each ends."""
    structures = [structure(data, name) for name in names]
    ends = np.cumsum([len(atoms) for atoms in structures])
    bonds = [
        np.argwhere(np.triu(data[f"{name}/bonddist"] == 1)) + end - len(atoms)
        for name, atoms, end in zip(names, structures, ends, strict=True)
    ]
    batch = AtomsBatch.from_atoms(structures).replace(bonds=torch.as_tensor(np.concatenate(bonds)))
    return batch, ends[:-1]


@pytest.mark.parametrize("file", ["dimers", "clusters"])
def test_clusters_component_by_component(file: str) -> None:
    """Energies to 1e-8, forces to 1e-7, in kJ/mol and Angstrom."""
    data = np.load(DATA / f"{file}.npz")
    names = sorted({key.split("/")[0] for key in data})
    batch, ends = together(data, names)
    evaluator = Evaluator(potential(100.0), trajectory=False)
    for component, part in COMPONENTS.items():
        found = evaluator.evaluate(batch, parts=[part])
        assert found.forces is not None
        forces = np.split(found.forces.numpy() / KJ, ends)
        for name, energy, force in zip(names, found.energy.numpy() / KJ, forces, strict=True):
            expected = float(data[f"{name}/E_{component}"])
            assert energy == pytest.approx(expected, rel=0, abs=1e-8), (name, component)
            np.testing.assert_allclose(
                force, data[f"{name}/F_{component}"], rtol=0, atol=1e-7, err_msg=name
            )


@pytest.mark.parametrize("cutoff", [6.0, 7.0])
def test_the_periodic_box_component_by_component(cutoff: float) -> None:
    """Against sums over pairs within the same cutoff and converged lattice sums: energies, forces
    and virial to 1e-6."""
    data = np.load(DATA / "box.npz")
    atoms = structure(data)
    batch, volume = AtomsBatch.from_atoms(atoms), atoms.get_volume()
    evaluator = Evaluator(potential(cutoff), trajectory=False)
    for component, part in COMPONENTS.items():
        if component in LATTICE and cutoff < 7.0:
            continue  # a smaller cutoff needs more waves, not another result
        found = evaluator.evaluate(batch, parts=[part])
        prefix = "" if component in LATTICE else f"rc{cutoff:.0f}/"
        assert found.forces is not None
        assert found.stress is not None
        expected = float(data[f"{prefix}E_{component}"])
        assert float(found.energy) / KJ == pytest.approx(expected, rel=0, abs=1e-6), component
        np.testing.assert_allclose(
            found.forces.numpy() / KJ, data[f"{prefix}F_{component}"], rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(
            found.stress[0].numpy() * volume / KJ, data[f"{prefix}W_{component}"], rtol=0, atol=1e-5
        )
