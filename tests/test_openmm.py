"""Molecular force fields against OpenMM, where its forces have the same form.

Bonded terms, exp-6 and charge transfer by custom forces, and charges with mutually induced
dipoles by AMOEBA's multipoles: without covalent maps its field has no exclusions, and its damping
is Thole's with the same exponent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from core_models import molecular_box, molecular_gas, toy_molecules

from hff_ase.batch import AtomsBatch
from hff_ase.evaluator import Evaluator
from hff_ase.potential import HybridPotential
from hff_ase.terms.bonded import Bonded
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.exp6 import ChargeTransfer, Exp6
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.induced_dipoles import InducedDipoles
from hff_ase.terms.term import Term

openmm = pytest.importorskip("openmm")

KJ = units.kJ / units.mol  # eV
THOLE = 0.39
NONE = (1.0, 1.0, 1.0)  # no exclusions


def sites(atoms: Atoms) -> list[tuple[dict[str, Any], list[int]]]:
    """Each molecule's entry and its atoms, which are in the entry's order."""
    entries = {tuple(entry["numbers"]): entry for entry in toy_molecules()}
    found = []
    for k in np.unique(atoms.arrays["molecule"]):
        mine = np.flatnonzero(atoms.arrays["molecule"] == k)
        found.append((entries[tuple(atoms.numbers[mine].tolist())], mine.tolist()))
    return found


def values(atoms: Atoms, name: str) -> np.ndarray:
    """A parameter of every atom."""
    found = np.empty(len(atoms))
    for entry, mine in sites(atoms):
        found[mine] = entry[name]
    return found


def theirs(atoms: Atoms, *forces: Any) -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/A by the reference platform."""
    context = context_of(atoms, *forces)
    state = context.getState(getEnergy=True, getForces=True)
    unit = openmm.unit
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    found = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
    return energy * KJ, np.asarray(found) * KJ


def context_of(atoms: Atoms, *forces: Any) -> Any:
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    if atoms.pbc.any():
        system.setDefaultPeriodicBoxVectors(*(0.1 * np.asarray(atoms.cell)).tolist())
    for force in forces:
        system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(0.1 * atoms.positions)
    return context


def ours(atoms: Atoms, terms: dict[str, Term], parts: list[str]) -> Any:
    model = HybridPotential(terms).requires_grad_(False).eval().set_dtype(torch.float64)
    evaluator = Evaluator(model, trajectory=False)
    return evaluator.evaluate(AtomsBatch.from_atoms(atoms), parts=parts)


def agree(found: Any, expected: tuple[float, np.ndarray], rtol: float, atol: float) -> None:
    """Energies to ``rtol``, forces to ``atol`` in eV/A."""
    assert float(found.energy) == pytest.approx(expected[0], rel=rtol)
    np.testing.assert_allclose(found.forces.numpy(), expected[1], rtol=rtol, atol=atol)


@pytest.mark.parametrize("structure", ["box", "gas"])
def test_bonded_terms(structure: str) -> None:
    atoms = molecular_box() if structure == "box" else molecular_gas()
    bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    torsions = openmm.PeriodicTorsionForce()
    for entry, mine in sites(atoms):
        for i, j, k, r0 in entry.get("bond_terms", []):
            bonds.addBond(mine[i], mine[j], 0.1 * r0, 100.0 * k / KJ)
        for i, j, m, k, theta in entry.get("angle_terms", []):
            angles.addAngle(mine[i], mine[j], mine[m], theta, k / KJ)
        for i, j, m, n, *ks in entry.get("proper_terms", []):
            four = (mine[i], mine[j], mine[m], mine[n])
            for order, k in enumerate(ks, 1):
                torsions.addTorsion(*four, order, 0.0 if order % 2 else np.pi, k / KJ)
        for c, i, j, m, k in entry.get("improper_terms", []):
            for a, b, d in ((i, j, m), (j, m, i), (m, i, j)):
                four = (mine[c], mine[a], mine[b], mine[d])
                torsions.addTorsion(*four, 2, np.pi, k / 3.0 / KJ)
    for force in (bonds, angles, torsions):
        force.setUsesPeriodicBoundaryConditions(bool(atoms.pbc.any()))
    found = ours(atoms, {"bonded": Bonded(toy_molecules())}, ["bonded"])
    agree(found, theirs(atoms, bonds, angles, torsions), 1e-9, 1e-9)


@pytest.mark.parametrize("name", ["exp6", "transfer"])
def test_pair_terms_with_exclusions(name: str) -> None:
    """Molecules without a cell: factors 0, 0, 1/2 up to three bonds apart, or 0 up to four."""
    atoms, nm = molecular_gas(), 0.1
    cut: dict[str, Any] = {"cutoff": 80.0, "switch_width": 0.0}
    term: Term
    if name == "exp6":
        term, factors = Exp6(toy_molecules(), **cut), (0.0, 0.0, 0.5)
        names = ("radius", "epsilon", "steepness", "c6")
        per = (nm, 1.0 / KJ, 1.0, nm**6 / KJ)
        form = (
            "6*e*exp(l*(1-r/r0)) + w*(0.15/r)^12 - c/(120*r0^6 + r^6); r0=(radius1+radius2)/2;"
            "e=sqrt(epsilon1*epsilon2); l=sqrt(steepness1*steepness2); c=sqrt(c61*c62);"
            f"w={0.0433641042418 / KJ!r}"
        )
    else:
        term, factors = ChargeTransfer(toy_molecules(), **cut), (0.0, 0.0, 0.0, 0.0)
        names = ("radius", "strength", "decay")
        per = (nm, nm**4 / KJ, 1.0)
        form = (
            "-e/r^4*exp(-(l*r/r0)^3); r0=(radius1+radius2)/2; e=sqrt(strength1*strength2);"
            "l=sqrt(decay1*decay2)"
        )
    force = openmm.CustomNonbondedForce(form)
    near = openmm.CustomCompoundBondForce(2, f"s*({form.replace(';', ');', 1)};r=distance(p1,p2)")
    for parameter in names:
        force.addPerParticleParameter(parameter)
    near.addPerBondParameter("s")
    for parameter in names:
        near.addPerBondParameter(f"{parameter}1")
        near.addPerBondParameter(f"{parameter}2")
    table = np.stack([values(atoms, n) * u for n, u in zip(names, per, strict=True)], 1)
    for row in table:
        force.addParticle(row.tolist())
    for template, mine in sites(atoms):
        apart = bonds_apart(len(mine), template["bonds"])
        for a in range(len(mine)):
            for b in range(a):
                if apart[a, b] <= len(factors):
                    i, j, s = mine[a], mine[b], factors[apart[a, b] - 1]
                    force.addExclusion(i, j)
                    if s:
                        both = np.stack([table[i], table[j]], 1).flatten()
                        near.addBond([i, j], [s, *both.tolist()])
    found = ours(atoms, {"term": term}, ["term"])
    agree(found, theirs(atoms, force, near), 1e-9, 1e-9)


def bonds_apart(n: int, bonds: list[list[int]]) -> np.ndarray:
    """Bonds on the shortest path between each two atoms, int [n, n]."""
    steps = np.full((n, n), 99)
    np.fill_diagonal(steps, 0)
    for i, j in bonds:
        steps[i, j] = steps[j, i] = 1
    for k in range(n):
        steps = np.minimum(steps, steps[:, k, None] + steps[k])
    return steps


def multipoles(atoms: Atoms) -> Any:
    """Charges and mutual dipoles without exclusions."""
    force = openmm.AmoebaMultipoleForce()
    force.setPolarizationType(openmm.AmoebaMultipoleForce.Mutual)
    force.setMutualInducedTargetEpsilon(1e-9)
    force.setMutualInducedMaxIterations(200)
    if atoms.pbc.any():
        force.setNonbondedMethod(openmm.AmoebaMultipoleForce.PME)
        force.setCutoffDistance(0.52)
        force.setAEwald(7.5)
        force.setPmeGridDimensions([72, 72, 72])
    zero, frame = [0.0] * 3, openmm.AmoebaMultipoleForce.NoAxisType
    for q, alpha, d in zip(
        values(atoms, "charge"),
        1e-3 * values(atoms, "polarizability"),
        1e-3 * values(atoms, "damping"),
        strict=True,
    ):
        how = (frame, -1, -1, -1, THOLE, d ** (1 / 6), alpha)
        force.addMultipole(q, zero, [0.0] * 9, *how)
    return force


@pytest.mark.parametrize("structure", ["box", "gas"])
@pytest.mark.parametrize("solver", ["dense", "iterative"])
def test_charges_and_mutual_dipoles(structure: str, solver: str) -> None:
    """In a triclinic box with Li+ by particle-mesh Ewald on either side, and for molecules."""
    atoms = molecular_box() if structure == "box" else molecular_gas()
    force = multipoles(atoms)
    context = context_of(atoms, force)
    dipoles = np.array([list(mu) for mu in force.getInducedDipoles(context)]) * 10.0
    k = 138.9354576 * KJ * 10.0  # OpenMM's k_e
    options: dict[str, Any] = {"cutoff": 9.0, "tolerance": 1e-8, "prefactor": k}
    terms: dict[str, Term] = {
        "charges": FixedCharges(toy_molecules()),
        "coulomb": Coulomb("ewald", **options),
        "pol": InducedDipoles(
            toy_molecules(), THOLE, NONE, solver=solver, dipole_tolerance=1e-9, **options
        ),
    }
    found = ours(atoms, terms, ["coulomb", "pol"])
    # in the box their mesh has an error; sums over pairs agree to that of their iterations
    closest = (2e-6, 1e-6, 1e-4) if structure == "box" else (1e-8, 1e-8, 1e-7)
    np.testing.assert_allclose(found.fields["dipoles"].numpy(), dipoles, rtol=0, atol=closest[0])
    agree(found, theirs(atoms, multipoles(atoms)), *closest[1:])
