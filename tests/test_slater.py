"""Short-range terms of Slater densities and dispersion over the lattice: independent sums,
derivatives, symmetries, kernels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import molecular_box, molecular_gas
from multipole_models import multipolar_molecules, wet_lithium

from hff_ase import testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.longrange.inverse_power import missing_fraction, splitting_of_power, wave_weight
from hff_ase.potential import HybridPotential
from hff_ase.terms import SlaterDispersion, SlaterPairs
from hff_ase.units import COULOMB_CONSTANT


def potential(method: str = "ewald", tolerance: float = 1e-12) -> HybridPotential:
    molecules = multipolar_molecules()
    cut = {"cutoff": 5.2, "switch_width": 0.7}
    terms = {
        "slater": SlaterPairs(molecules, **cut),
        "dispersion": SlaterDispersion(molecules, tolerance=tolerance, method=method, **cut),
    }
    model = HybridPotential(terms).requires_grad_(False).eval()
    return model.set_dtype(torch.float64)


def energy(model: HybridPotential, atoms: Atoms, *parts: str) -> float:
    evaluator = Evaluator(model, trajectory=False)
    return float(evaluator.evaluate(AtomsBatch.from_atoms(atoms), parts=parts or None).energy)


@pytest.mark.parametrize("n", [6, 8, 10])
def test_waves_of_a_power_are_its_fourier_transform(n: int) -> None:
    """4 pi int (h_n/r^n) r^2 sin(kr)/(kr) dr by quadrature, in three regions of k."""
    alpha = 0.4
    r = torch.linspace(1e-4, 250.0, 400_001, dtype=torch.float64)
    smooth = missing_fraction(n // 2 - 1, (alpha * r) ** 2) / r**n
    for k in (0.05, 0.9, 3.0):
        wave = torch.trapezoid(smooth * r * torch.sin(k * r) / k, r)
        found = wave_weight(n, alpha, torch.tensor(k**2, dtype=torch.float64))
        assert float(found) == pytest.approx(4.0 * math.pi * float(wave), rel=1e-6, abs=1e-10)


def test_a_fraction_keeps_its_digits_and_its_slope() -> None:
    for n in (2, 6, 10):
        x = torch.tensor([1e-3, 0.3, 1.999999, 2.000001, 4.0, 30.0], dtype=torch.float64)
        x.requires_grad_()
        found = missing_fraction(n, x)
        exact = torch.special.gammainc(torch.tensor(n + 1.0, dtype=torch.float64), x.detach())
        torch.testing.assert_close(found.detach(), exact, rtol=1e-10, atol=0)
        (slope,) = torch.autograd.grad(found.sum(), x)
        with torch.no_grad():
            torch.testing.assert_close(slope, torch.exp(-x) * x**n / math.factorial(n), rtol=1e-7,
                                       atol=1e-300)  # fmt: skip
    alpha = splitting_of_power(6, 9.0, 1e-6)
    x2 = (9.0 * alpha) ** 2
    assert math.exp(-x2) * (1 + x2 + x2**2 / 2) == pytest.approx(1e-6, rel=1e-6)


def test_dispersion_is_the_sum_over_images() -> None:
    """-sqrt(C_i C_j)/r^n over all images within 60 A and a uniform rest, bonded neighbours of the
    nearest image left out."""
    molecules = multipolar_molecules()
    # a box of its own: two waters, so that the slow sum is short
    water = Atoms("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.25, 0.94, 0]])
    box = water + water
    box.positions[3:] += [2.6, 2.9, 1.2]
    box.set_cell([[6.0, 0, 0], [0.8, 5.6, 0], [-0.5, 0.4, 6.3]])
    box.pbc = True
    box.set_array("molecule", np.repeat([0, 1], 3))
    found = energy(potential(), box, "dispersion.undamped")
    cell, reach = np.asarray(box.cell), 60.0
    images = np.array(list(itertools.product(range(-13, 14), repeat=3))) @ cell
    expected = 0.0
    for n in (6, 8, 10):
        c = np.sqrt(np.array(molecules[0][f"c{n}"] * 2))
        for i, j in itertools.product(range(6), repeat=2):
            r = np.linalg.norm(box.positions[j] - box.positions[i] + images, axis=1)
            counts = (r > 0.1) & (r < reach)
            if i // 3 == j // 3:
                counts &= r > 1.7  # the nearest image of the own molecule
            expected -= 0.5 * c[i] * c[j] * float(np.sum(r[counts] ** -n))
        rest = 4.0 * math.pi / ((n - 3) * reach ** (n - 3)) / box.get_volume()
        expected -= 0.5 * c.sum() ** 2 * rest
    assert found == pytest.approx(expected, rel=2e-6)


def test_pairs_of_atoms_are_those_of_the_formula() -> None:
    """Two ions at one distance, each part by hand."""
    molecules = multipolar_molecules()[2:]
    model = HybridPotential(
        {
            "slater": SlaterPairs(molecules, cutoff=9.0),
            "dispersion": SlaterDispersion(molecules, cutoff=9.0),
        }
    ).eval()
    r, b = 2.1, 4.9
    ions = Atoms("Li2", [[0, 0, 0], [0, 0, r]], info={"charge": 2.0})
    x = b * r
    overlap = (x * x / 3 + x + 1) * math.exp(-x)
    assert energy(model, ions, "slater.exchange") == pytest.approx(25.0 * overlap, rel=1e-9)
    assert energy(model, ions, "slater.dispersion") == pytest.approx(-4.0 * overlap, rel=1e-9)
    assert energy(model, ions, "slater.penetration") == 0.0
    damping = -COULOMB_CONSTANT / r * (1 + x) * math.exp(-x)
    assert energy(model, ions, "slater.charges") == pytest.approx(damping, rel=1e-9)
    decay = x - (2 * x * x + 3 * x) / (x * x + 3 * x + 3)
    expected = 0.0
    for n, c in ((6, 0.02), (8, 0.01), (10, 0.004)):
        kept = sum(decay**k / math.factorial(k) for k in range(n + 1))
        expected -= (1.0 - math.exp(-decay) * kept) * c / r**n
    assert energy(model, ions, "dispersion") == pytest.approx(expected, rel=1e-9)


def test_forces_and_stress_are_exact() -> None:
    """In a small triclinic box, and of flexible molecules without a cell."""
    checks.check_forces(potential("pme", 1e-6), [wet_lithium(), molecular_gas()], n_directions=1)
    checks.check_stress(potential("pme", 1e-6), [wet_lithium()])


def test_a_mesh_gives_what_waves_give() -> None:
    for tolerance, allowed in ((1e-4, 2e-4), (1e-6, 2e-6)):
        exact, mesh = (energy(potential(*m), molecular_box()) for m in (
            ("ewald", 1e-12), ("pme", tolerance)))  # fmt: skip
        assert mesh == pytest.approx(exact, rel=0, abs=allowed * 5.0)


def test_batches_rotations_images_and_kernels() -> None:
    structures, model = [molecular_box(), molecular_gas(1)], potential("pme", 1e-6)
    checks.check_batch_equals_single(model, structures, tolerance=1e-9)
    checks.check_no_gradient_across_systems(model, structures)
    checks.check_rotation(model, structures, tolerance=1e-9)
    checks.check_lattice_shift(model, structures[:1], tolerance=1e-6)
    checks.check_padded_list(model, structures[:1], tolerance=1e-9)
    checks.check_kernels(model, structures)


def test_what_cannot_be_is_refused() -> None:
    molecules = multipolar_molecules()
    with pytest.raises(ConfigError, match="method 'ewald' or 'pme', got 1e-05 and 'p3m'"):
        SlaterDispersion(molecules, method="p3m")
    with pytest.raises(ConfigError, match="exchange for the 1 atoms of 'Li', got None"):
        SlaterPairs([{k: v for k, v in molecules[2].items() if k != "exchange"}])
