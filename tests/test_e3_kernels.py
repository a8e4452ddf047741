"""The fused E3Net against its reference: any system, gradients, where it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import ELEMENTS, mixed_systems

from hff_ase.batch import AtomsBatch
from hff_ase.kept import LiveParameters
from hff_ase.kernels.cubics import TOLERANCE
from hff_ase.kernels.networks import fused_form
from hff_ase.kernels.threads import FEWEST
from hff_ase.nets.e3 import E3Net
from hff_ase.passes import Wanted
from hff_ase.potential import HybridPotential
from hff_ase.terms.short_range import ShortRange

pytest.importorskip("numba")

from hff_ase.kernels.e3.table import live_tables, make_tables, radial_weights

CUTOFF = 4.0
KINDS: dict[str, dict[str, Any]] = {
    "l0": {"l_max": 0, "layers": 2, "channels": 16},
    "l1": {"l_max": 1, "layers": 3, "channels": 32},
    "l2": {"l_max": 2, "layers": 3, "channels": 8, "basis": "exp-normal", "radial_hidden": []},
    "many-body": {"l_max": 1, "l_edge": 2, "layers": 2, "correlation": 3, "channels": 8},
}


def potential_of(kind: str, seed: int = 0, **options: Any) -> HybridPotential:
    torch.manual_seed(seed)
    given = {"cutoff": CUTOFF, "avg_neighbors": 200.0, **KINDS[kind], **options}
    term = ShortRange(ELEMENTS, "e3", given, hidden=(16,))
    return HybridPotential({"net": term}, ELEMENTS).requires_grad_(False)


def net_of(potential: HybridPotential) -> E3Net:
    (net,) = [m for m in potential.modules() if isinstance(m, E3Net)]
    return net


def crowded(n: int = 150, seed: int = 0) -> Atoms:
    """A triclinic box, smaller than two cutoffs, with many neighbours to each atom."""
    rng = np.random.default_rng(seed)
    cell = np.array([[6.0, 0.0, 0.0], [1.5, 5.5, 0.0], [-1.0, 0.8, 5.0]])
    grid = np.stack(np.meshgrid(*[np.arange(6) / 6] * 3), -1).reshape(-1, 3)[:n]
    positions = grid @ cell + 0.05 * rng.normal(size=(len(grid), 3))
    return Atoms(rng.choice(ELEMENTS, len(grid)), positions, cell=cell, pbc=True)


def relative(value: torch.Tensor | None, expected: torch.Tensor | None) -> float:
    assert value is not None
    assert expected is not None
    return float((value.double() - expected.double()).abs().max() / expected.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_fast_is_the_reference_on_random_systems(kind: str) -> None:
    """Molecules, ions, single atoms, cells smaller than the cutoff, crowded boxes, in one batch."""
    potential = potential_of(kind)
    batch = AtomsBatch.from_atoms([*mixed_systems(30, seed=1), crowded()])
    neighbors = potential.neighbor_list(skin=0.5)
    fast = potential.use_kernels("auto")(batch, neighbors)
    assert fused_form(net_of(potential), potential.backend(batch.device)) is not None
    plain = potential.use_kernels("reference")(batch, neighbors)
    exact = potential.set_dtype(torch.float64)(batch, neighbors)

    def close(name: str, least: float) -> bool:
        """As near as plain float32 is."""
        a, b, c = (getattr(found, name) for found in (fast, plain, exact))
        return relative(a, c) < max(least, 1.5 * relative(b, c))

    assert relative(plain.forces, exact.forces) < 5e-5
    assert close("energies", 1e-6)
    assert close("forces", 2e-6)
    assert close("stress", 2e-6)
    names = "node_features"
    assert relative(fast.fields[names], exact.fields[names]) < 5e-6


@pytest.mark.parametrize("kind", KINDS)
def test_forces_and_stress_are_the_gradient_of_the_tabulated_energy(kind: str) -> None:
    """By differences in float64, along a random move of atoms and cell."""
    potential = potential_of(kind).set_dtype(torch.float64)
    batch = AtomsBatch.from_atoms([crowded(40), *mixed_systems(3, seed=2)])
    live = LiveParameters()
    found = potential(batch, parameters=live)
    torch.manual_seed(3)
    move, step = torch.randn_like(batch.positions), 1e-5
    strain = torch.randn(3, 3, dtype=torch.float64)
    strain = strain + strain.mT
    values = []
    for sign in (1.0, -1.0):
        stretch = torch.eye(3, dtype=torch.float64) + sign * step * strain
        positions = (batch.positions + sign * step * move) @ stretch
        moved = batch.moved(positions, batch.cell @ stretch)
        values.append(potential(moved, parameters=live).energy)
    work = batch.system_sum(-(found.forces * move).sum(1))
    virial = (found.stress * strain).sum((1, 2)) * batch.volume
    periodic = batch.periodic
    difference = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(
        difference[periodic], (work + virial)[periodic], rtol=2e-6, atol=2e-6
    )


def test_table_is_within_its_tolerance() -> None:
    net = net_of(potential_of("l1")).double()
    tables = make_tables(net)
    live = live_tables(net)
    torch.manual_seed(0)
    r = 0.5 + (CUTOFF - 0.5) * torch.rand(500, dtype=torch.float64)
    for layer, *both in zip(net.interactions, tables, live, strict=True):
        value, slope = radial_weights(net, layer, r)
        for table in both:
            n = len(table)
            place = r * (n / CUTOFF)
            knot = place.long()
            t = (place - knot)[:, None]
            c0, c1, c2, c3 = table[knot].transpose(1, 2).flatten(2).unbind(1)
            assert relative(c0 + t * (c1 + t * (c2 + t * c3)), value) < TOLERANCE
            rise = (c1 + t * (2 * c2 + 3 * t * c3)) * (n / CUTOFF)
            assert relative(rise, slope) < 1.5 * TOLERANCE


def test_threads_change_rounding_only() -> None:
    potential, batch = (
        potential_of("l1"),
        AtomsBatch.from_atoms([crowded(150, k) for k in range(3)]),
    )
    assert batch.n_atoms > FEWEST  # enough for several threads
    results, before = [], torch.get_num_threads()
    try:
        for n in (1, 3, 3):
            torch.set_num_threads(n)
            results.append(potential(batch))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[1].forces, results[2].forces)  # and the same every time
    # products of matrices are shared out by the library that computes them, as it likes
    assert relative(results[1].energies, results[0].energies) < 1e-6
    assert relative(results[1].forces, results[0].forces) < 1e-6


def test_nothing_at_and_beyond_the_cutoff() -> None:
    potential = potential_of("l1")
    alone = potential(AtomsBatch.from_atoms([Atoms("Li"), Atoms("F")])).energy.sum()
    for factor in (1.0, 1.0 + 1e-12, 1.05):
        pair = Atoms("LiF", [[0, 0, 0], [CUTOFF * factor, 0, 0]])
        neighbors = potential.neighbor_list(skin=0.8)
        found = potential(AtomsBatch.from_atoms([pair]), neighbors)
        assert float(found.energy.sum()) == pytest.approx(float(alone), abs=1e-12)
        assert not found.forces.any()


def test_a_position_that_is_no_number_gives_no_number() -> None:
    """Within a skin nothing is searched anew, so that such positions reach the kernels."""
    potential, batch = potential_of("l1"), AtomsBatch.from_atoms([crowded(40)])
    neighbors = potential.neighbor_list(skin=0.5)
    neighbors.update(batch)
    positions = batch.positions.clone()
    positions[3, 1] = torch.nan
    moved = batch.moved(positions, batch.cell)
    fields, _ = potential.evaluate_terms(moved, neighbors, Wanted())
    assert fields["node_features"][3].isnan().all()


def test_tables_follow_the_parameters() -> None:
    potential, batch = potential_of("l1"), AtomsBatch.from_atoms([crowded(40)])
    potential(batch)
    for change in ("radial", "basis", "embedding"):
        with torch.no_grad():
            net = net_of(potential)
            for name, parameter in net.named_parameters():
                if change in name:
                    parameter *= 1.1
        fast = potential.use_kernels("auto")(batch)
        plain = potential.use_kernels("reference")(batch)
        assert relative(fast.forces, plain.forces) < 2e-5


def test_second_derivatives_run_the_reference_and_are_refused_of_kernels() -> None:
    potential, batch = potential_of("l1"), AtomsBatch.from_atoms([crowded(40)])
    assert potential.backend(batch.device, True) is None
    neighbors = potential.neighbor_list()
    neighbors.update(batch)
    moved = batch.moved(batch.positions.clone().requires_grad_(), batch.cell)
    fields, _ = potential.evaluate_terms(moved, neighbors, Wanted())
    total = fields["node_features"].square().sum()
    (slope,) = torch.autograd.grad(total, moved.positions, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()
