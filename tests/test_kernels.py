"""Fused kernels as a whole: the reference's results, chosen and left out by themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from core_models import VARIANTS, mixed_systems

import hff_ase.testing as checks
from hff_ase import HybridFF
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.neighbors import NeighborList
from hff_ase.pairs import PairRequest
from hff_ase.testing.compare import assert_close


@pytest.mark.parametrize("name", list(VARIANTS))
def test_fifty_mixed_systems_give_what_the_reference_gives(name: str) -> None:
    checks.check_kernels(VARIANTS[name](), mixed_systems(50), skin=0.7)


def test_reference_where_second_derivatives_or_float64_are_wanted() -> None:
    potential = VARIANTS["pme"]()
    cpu = torch.device("cpu")
    assert potential.backend(cpu) == "numba"
    assert potential.backend(cpu, create_graph=True) is None
    assert potential.set_dtype(torch.float64).backend(cpu) is None
    assert potential.set_dtype(torch.float32).use_kernels("reference").backend(cpu) is None
    assert potential.subset(["short_range"]).backend(cpu) is None  # a part keeps the choice


def test_double_backward_goes_through_the_reference_by_itself() -> None:
    potential = VARIANTS["pme"]().requires_grad_(True)
    batch = AtomsBatch.from_atoms(mixed_systems(4))
    result = potential(batch, create_graph=True)
    assert result.forces is not None
    result.forces.square().sum().backward()
    weight = potential.terms["short_range"].net.radial.weight
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_without_numba_slower_and_said_once(uninstall: Callable[[str], None]) -> None:
    uninstall("numba")
    potential = VARIANTS["pme"]()
    batch = AtomsBatch.from_atoms(mixed_systems(6))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", HFFWarning)
        result = potential(batch)
        potential(batch)
    assert ["numba is not installed" in str(warning.message) for warning in said] == [True]
    expected = potential.use_kernels("reference")(batch)
    assert torch.equal(result.energy, expected.energy)
    assert result.forces is not None
    assert expected.forces is not None
    assert_close("forces", result.forces, expected.forces, 1e-12)


def test_choice_of_kernels() -> None:
    model = VARIANTS["pme"]()
    assert HybridFF(model, kernels="reference").potential.kernels == "reference"
    with pytest.raises(ConfigError, match="expected kernels 'auto' or 'reference', got 'fast'"):
        HybridFF(model, kernels="fast")


def test_a_rebuild_among_the_same_systems_moves_no_memory_of_plans() -> None:
    potential = VARIANTS["pme"]()
    batch = AtomsBatch.from_atoms(mixed_systems(5))
    neighbors = potential.neighbor_list(1.0)
    potential(batch, neighbors)
    plans = [neighbors.plan(term) for _, term in potential.named_terms()]
    reference = neighbors.reference
    neighbors.build(batch.moved(batch.positions + 0.3))
    assert all(
        neighbors.plan(term) is plan
        for (_, term), plan in zip(potential.named_terms(), plans, strict=True)
    )
    assert neighbors.reference is reference
    assert reference is not None
    assert torch.equal(reference.positions, batch.positions + 0.3)


def test_rows_on_a_device_stay_where_they_are_until_they_are_too_short() -> None:
    pytest.importorskip("nvalchemiops", reason="nvalchemi-toolkit-ops is the extra 'gpu'")
    from hff_ase.kernels.rows.device import DeviceSearch

    batch = AtomsBatch.from_atoms(checks.ionic_box("Li2F2HO", seed=2))
    request = PairRequest(4.0, "full")
    neighbors = NeighborList([request], 0.5)
    neighbors.build(batch)
    neighbors._searches[request] = DeviceSearch()
    neighbors.rows(request)
    layout = neighbors.layout
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neighbors.build(batch.moved(batch.positions * 1.001))
    assert neighbors.layout == layout
    denser = batch.moved(batch.positions * 0.6, batch.cell * 0.6)
    neighbors.build(denser)
    assert neighbors.layout != layout
