"""Triton kernels of GET's messages against automatic differentiation of the torch layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor
from triton_interpreter import DEVICE  # before the kernels

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError
from hff_ase.kernels.get import gpu, layers
from hff_ase.kernels.get.table import RadialTable, head_fastest, tabulate
from hff_ase.kernels.get.weights import fused_weights
from hff_ase.neighbors import NeighborList
from hff_ase.nets.get import GET, Attention, GETEdges
from hff_ase.pairs import PairRequest, Rows

CUTOFF, SKIN = 3.5, 1.0
SIZES = [(64, 16), (48, 16), (32, 8)]


def gas(n: int, length: float, seed: int, pbc: bool = True) -> Atoms:
    """Atoms at random, at least 0.9 Angstrom apart, in a triclinic box or free."""
    rng = np.random.default_rng(seed)
    cell = length * np.array([[1.0, 0.0, 0.0], [0.2, 0.9, 0.0], [-0.1, 0.15, 1.1]])
    atoms = Atoms(cell=cell, pbc=pbc)
    while len(atoms) < n:
        trial = atoms + Atoms("H", [rng.random(3) @ cell])
        distances = trial.get_all_distances(mic=pbc)[-1, :-1]
        if not len(distances) or distances.min() > 0.9:
            atoms = trial
    return atoms


@dataclass
class Case:
    """A layer, its inputs and the neighbours of a batch."""

    net: GET
    layer: Attention
    batch: AtomsBatch
    rows: Rows
    x: Tensor
    grad_m: Tensor
    grad_vectors: Tensor

    @property
    def heads(self) -> int:
        return self.layer.heads

    @property
    def table(self) -> RadialTable:
        return tabulate(self.net)


def make_case(
    structures: list[Atoms], channels: int, heads: int, layer: int = 0, envelope: str = "polynomial"
) -> Case:
    generator = torch.Generator().manual_seed(channels + layer)
    with torch.random.fork_rng():
        torch.manual_seed(channels)
        net = GET(3, channels, heads, 3, 16, CUTOFF, envelope)
        torch.nn.init.normal_(net.radial.weight)
    net = net.requires_grad_(False).to(DEVICE)
    batch = AtomsBatch.from_atoms(structures, DEVICE)
    request = PairRequest(CUTOFF, "full")
    neighbors = NeighborList([request], SKIN)
    neighbors.update(batch)
    random = [
        torch.randn(batch.n_atoms, *shape, generator=generator).to(DEVICE)
        for shape in ((channels,), (channels,), (3, channels))
    ]
    return Case(net, net.layers[layer], batch, neighbors.rows(request), *random)


def vectors_of(case: Case, positions: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs i, j within the cutoff and r_j - r_i, out of rows that hold more."""
    rows = case.rows
    places = zip(rows.start.tolist(), rows.count.tolist(), strict=True)
    slot = torch.cat([torch.arange(s, s + count) for s, count in places]).to(DEVICE)
    i = torch.arange(case.batch.n_atoms, device=DEVICE)
    i = torch.repeat_interleave(i, rows.count.long())
    j, shift = rows.j[slot].long(), rows.shift[slot].double()
    vector = positions[j] - positions[i]
    vector = vector + torch.einsum("pa,pab->pb", shift, cell[case.batch.system[i]])
    kept = vector.norm(dim=1) < CUTOFF
    assert not bool(kept.all()) or not len(kept)  # pairs of the skin are among them
    return i[kept], j[kept], vector[kept]


def reference(case: Case) -> dict[str, Tensor]:
    """What the torch layer gives, in float64 and with the features and envelope themselves."""
    net, layer = case.net.double(), case.layer
    x = case.x.double().requires_grad_()
    positions = case.batch.positions.clone().requires_grad_()
    cell = case.batch.cell.clone().requires_grad_()
    i, j, vector = vectors_of(case, positions, cell)
    r = vector.norm(dim=1)
    cut = net.envelope(r)
    feature = torch.nn.functional.silu(net.radial(net.basis(r) * cut[:, None]))
    m, vectors = layer.messages(x, GETEdges(i, j, feature, cut, vector / r[:, None]))
    energy = (m * case.grad_m.double()).sum()
    out = {"m": m}
    if vectors is not None:
        energy = energy + (vectors * case.grad_vectors.double()).sum()
        out["M"] = vectors
    grads = torch.autograd.grad(energy, [x, positions, cell])
    case.net.float()
    return {**out, **dict(zip(("x", "positions", "cell"), grads, strict=True))}


def fused(case: Case, row_of: Tensor | None = None) -> dict[str, Tensor]:
    """The same from the kernels, which start from q, k and v; ``x`` holds the rows of `row_of`."""
    layer, batch, table = case.layer, case.batch, case.table
    n, channels = case.x.shape
    stored = head_fastest(channels, case.heads).to(DEVICE)
    x = case.x.clone().requires_grad_()
    qkv = layer.qkv(layer.norm(x)).view(n, case.heads, 3, channels // case.heads)
    qkv = qkv.permute(0, 2, 3, 1).reshape(n, 3 * channels)  # head-fastest
    edges = gpu.prepare_edges(batch.positions, batch.cell, batch.system, case.rows, CUTOFF, table)
    q, k, v = qkv.detach().chunk(3, dim=1)
    m, vectors = gpu.forward_messages(
        q, k, v, edges, table, case.heads, layer.vector_message, row_of
    )
    out = {"m": m[:, stored.argsort()]}
    grad_vectors = None
    if vectors is not None:
        out["M"] = vectors[..., stored.argsort()]
        grad_vectors = case.grad_vectors[..., stored]
    sums = gpu.Accumulators.zeros(batch.n_atoms, batch.device, cell=True)
    grad_m = case.grad_m[:, stored]
    grads = gpu.backward_messages(
        q, k, v, grad_m, grad_vectors, edges, table, case.heads, sums, row_of=row_of
    )
    if grads is not None:
        (out["x"],) = torch.autograd.grad(qkv, x, torch.cat(grads, 1))
    d_cell = sums.d_cell(batch.system, batch.n_systems)
    assert d_cell is not None
    return {**out, "positions": sums.positions, "cell": d_cell}


def assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in ours.items():
        scale = float(expected[name].detach().abs().max())
        error = float((value.double() - expected[name]).detach().abs().max())
        assert error <= 1e-5 * max(scale, 1e-3), (name, error, scale)


def padded(rows: Rows, width: int) -> Rows:
    """The same rows in a matrix with unused, poisoned slots behind each and one before all."""
    n = rows.start.shape[0]
    start = 1 + width * torch.arange(n, dtype=torch.int32, device=DEVICE)
    j = torch.full((1 + n * width,), 2**30, dtype=torch.int32, device=DEVICE)
    shift = torch.full((1 + n * width, 3), 99, dtype=torch.int32, device=DEVICE)
    for old, new, count in zip(
        rows.start.tolist(), start.tolist(), rows.count.tolist(), strict=True
    ):
        j[new : new + count] = rows.j[old : old + count]
        shift[new : new + count] = rows.shift[old : old + count]
    return Rows(start, rows.count, j, shift)


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize(("channels", "heads"), SIZES)
def test_messages_and_their_gradients_are_those_of_the_torch_layer(
    channels: int, heads: int, layer: int
) -> None:
    case = make_case([gas(8, 4.3, seed=layer)], channels, heads, layer)
    ours, expected = fused(case), reference(case)
    assert set(ours) == set(expected)
    assert ("M" in ours) == (layer < 2)  # the last layer sends no vectors
    assert_same(ours, expected)


def test_self_images_in_a_cell_smaller_than_the_cutoff() -> None:
    case = make_case([gas(3, 2.9, seed=3)], 32, 8)
    rows = case.rows
    first = rows.j[rows.start[0] : rows.start[0] + rows.count[0]]
    assert int((first == 0).sum()) >= 6
    assert_same(fused(case), reference(case))


def test_systems_of_a_batch_with_and_without_a_cell_or_neighbours() -> None:
    alone, pair = Atoms("H"), Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.3, 1.1]])
    dense = gas(5, 3.8, seed=5)
    case = make_case([alone, dense, pair, gas(5, 5.0, seed=6, pbc=False)], 48, 16, layer=1)
    assert int(case.rows.count[0]) == 0
    ours = fused(case)
    assert_same(ours, reference(case))
    assert not ours["m"][0].any()
    assert not ours["positions"][0].any()
    assert not ours["cell"][[0, 2, 3]].any()  # molecules have no images
    single = make_case([dense], 48, 16, layer=1)
    single.x, single.grad_m = case.x[1:6], case.grad_m[1:6]
    single.grad_vectors = case.grad_vectors[1:6]
    of_dense = {name: value[1:2] if name == "cell" else value[1:6] for name, value in ours.items()}
    assert_same(fused(single), of_dense)


def test_no_pairs_at_all() -> None:
    case = make_case([Atoms("H")], 32, 8)
    assert not any(value.any() for value in fused(case).values())


def test_rows_may_be_padded_and_lie_anywhere() -> None:
    case = make_case([gas(6, 4.0, seed=7)], 32, 8)
    expected = fused(case)
    case.rows = padded(case.rows, int(case.rows.count.max()) + 3)
    for name, value in fused(case).items():
        assert torch.equal(value, expected[name]), name


def test_pairs_of_the_skin_are_dropped_and_the_others_keep_their_order() -> None:
    case = make_case([gas(8, 4.4, seed=8)], 32, 8)
    rows, batch, table = case.rows, case.batch, case.table
    edges = gpu.prepare_edges(batch.positions, batch.cell, batch.system, rows, CUTOFF, table)
    n_dropped = 0
    for i in range(batch.n_atoms):
        own = slice(int(rows.start[i]), int(rows.start[i] + rows.count[i]))
        j, shift = rows.j[own].long(), rows.shift[own].double()
        vector = batch.positions[j] - batch.positions[i] + shift @ batch.cell[0]
        r = vector.norm(dim=1)
        kept, n = r < CUTOFF, int(edges.count[i])
        n_dropped += int((~kept).sum())
        of_edges = slice(own.start, own.start + n)
        assert torch.equal(edges.index[of_edges, 0].long(), j[kept])
        unit = (vector / r[:, None])[kept]
        torch.testing.assert_close(edges.geometry[of_edges, :3].double(), unit, rtol=0, atol=1e-7)
        place = edges.index[of_edges, 1] + edges.geometry[of_edges, 3].double()
        torch.testing.assert_close(place * table.spacing, r[kept], rtol=0, atol=1e-9)
    assert n_dropped > 0


def test_atoms_that_share_rows_of_constants() -> None:
    case = make_case([gas(6, 4.0, seed=9)], 32, 8)
    species = torch.tensor([0, 2, 1, 1, 0, 2], device=DEVICE)
    rows = case.x[:3]
    case.x = rows[species]
    expected = reference(case)
    case.x = rows
    ours = fused(case, species)
    assert "x" not in ours
    assert_same(ours, expected)


def test_what_layers_add_to_positions_and_cell_accumulates() -> None:
    case = make_case([gas(5, 3.8, seed=10)], 32, 8)
    batch, table = case.batch, case.table
    edges = gpu.prepare_edges(batch.positions, batch.cell, batch.system, case.rows, CUTOFF, table)
    sums = gpu.Accumulators.zeros(batch.n_atoms, batch.device, cell=True)
    q, k, v = case.x, case.x.roll(1, 0), case.x.roll(2, 0)
    found = []
    for _ in range(2):
        gpu.backward_messages(
            q, k, v, case.grad_m, case.grad_vectors, edges, table, case.heads, sums
        )
        assert sums.cell is not None
        found.append((sums.positions.clone(), sums.cell.clone()))
    for once, twice in zip(*found, strict=True):
        torch.testing.assert_close(twice, 2.0 * once)


def test_coinciding_atoms_give_nan_as_in_the_reference_rather_than_nothing() -> None:
    case = make_case([Atoms("H3", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])], 32, 8)
    assert fused(case)["M"].isnan().any()
    case = make_case([gas(4, 6.0, seed=1, pbc=False)], 32, 8)
    case.batch.positions[1] = torch.nan
    assert fused(case)["m"].isnan().any()


def test_too_many_atoms_for_the_indices_are_refused() -> None:
    case = make_case([Atoms("H")], 32, 8)
    positions = torch.empty(1, 3, dtype=torch.float64, device="meta").expand(2**25, 3)
    with pytest.raises(StructureError, match="expected at most 22369621 atoms"):
        gpu.prepare_edges(
            positions, case.batch.cell, case.batch.system, case.rows, CUTOFF, case.table
        )


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
@pytest.mark.parametrize(("channels", "heads"), SIZES)
def test_every_tile_gives_the_same_and_a_large_box_repeats_exactly(
    channels: int, heads: int
) -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3), -1).reshape(-1, 3) * 1.9
    atoms = Atoms("H" * len(grid), grid + 0.2 * rng.normal(size=grid.shape), cell=[30.4] * 3)
    atoms.pbc = True
    case = make_case([atoms], channels, heads, layer=1)
    expected, ours = reference(case), fused(case)
    assert_same(ours, expected)
    again = fused(case)
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    small = make_case([gas(14, 5.2, seed=1)], channels, heads, layer=1)
    expected = reference(small)
    for forward, backward in zip(gpu._forward.configs, gpu._backward.configs, strict=True):
        for kernel, config in ((gpu._forward, forward), (gpu._backward, backward)):
            kernel.cache.clear()
            kernel.configs, everything = [config], kernel.configs
            assert_same(fused(small), expected)
            kernel.configs = everything


@pytest.mark.parametrize(("channels", "heads"), [(32, 8)])
def test_a_whole_network_between_torchs_dense_operations(channels: int, heads: int) -> None:
    """The network that runs on a GPU: these edge sums inside `hff_ase.kernels.get.layers`."""
    case = make_case([gas(6, 4.0, seed=11), Atoms("H")], channels, heads)
    net, batch = case.net, case.batch
    species = torch.arange(batch.n_atoms, device=DEVICE) % 3
    fast = layers.TritonPass(fused_weights(net), species, batch, case.rows, gpu)
    ours = {"features": fast.forward()}
    ours["positions"], ours["cell"] = fast.backward(case.x)

    positions = batch.positions.clone().requires_grad_()
    cell = batch.cell.clone().requires_grad_()
    i, j, vector = vectors_of(case, positions, cell)
    features = net.double()(species, i, j, vector)
    grads = torch.autograd.grad(features, [positions, cell], case.x.double())
    assert_same(ours, dict(zip(ours, (features, *grads), strict=True)))
