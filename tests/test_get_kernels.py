"""GET's fused CPU kernels against the torch layers, which are the reference."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import atomic_numbers
from core_models import ELEMENTS, mixed_systems
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.importers.bamboo import from_bamboo
from hff_ase.kernels.cubics import TOLERANCE
from hff_ase.kernels.get import layers
from hff_ase.kernels.get.network import fused_get
from hff_ase.kernels.get.table import head_fastest, radial_functions, tabulate
from hff_ase.kernels.get.weights import fused_weights
from hff_ase.neighbors import NeighborList
from hff_ase.nets.get import GET, GETEdges
from hff_ase.pairs import PairRequest, Rows
from hff_ase.potential import HybridPotential
from hff_ase.terms.short_range import ShortRange

numba = pytest.importorskip("numba")

from hff_ase.kernels.get import simd  # noqa: E402
from hff_ase.kernels.get.cpu import NumbaPass  # noqa: E402
from hff_ase.kernels.threads import FEWEST  # noqa: E402

CUTOFF = 4.0
# channels, heads, layers: vectors of one part and of several
SHAPES = ((16, 4, 3), (12, 6, 4))


def network(
    channels: int = 16, heads: int = 4, n_layers: int = 3, envelope: str = "polynomial"
) -> GET:
    torch.manual_seed(channels + n_layers)
    net = GET(len(ELEMENTS), channels, heads, n_layers, 8, CUTOFF, envelope)  # type: ignore[arg-type]
    with torch.no_grad():  # every parameter has a say, biases and norms included
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.requires_grad_(False)


@dataclass
class Case:
    """Structures with their list, and what is differentiated."""

    batch: AtomsBatch
    neighbors: NeighborList
    species: Tensor

    @classmethod
    def of(cls, structures: list[Atoms], skin: float = 0.0) -> Case:
        batch = AtomsBatch.from_atoms(structures)
        neighbors = NeighborList([PairRequest(CUTOFF, "full")], skin)
        neighbors.update(batch)
        index = torch.zeros(120, dtype=torch.int64)
        index[[atomic_numbers[symbol] for symbol in ELEMENTS]] = torch.arange(len(ELEMENTS))
        return cls(batch, neighbors, index[batch.numbers])

    @property
    def rows(self) -> Rows:
        return self.neighbors.rows(PairRequest(CUTOFF, "full"))

    def leaves(self) -> AtomsBatch:
        positions = self.batch.positions.clone().requires_grad_()
        return self.batch.moved(positions, self.batch.cell.clone().requires_grad_())

    def reference(self, net: GET, batch: AtomsBatch) -> Tensor:
        pairs = self.neighbors.bind(batch).pairs(PairRequest(CUTOFF, "full"))
        return net(self.species, pairs.i, pairs.j, pairs.vector.to(net.embedding.weight.dtype))

    def fused(self, net: GET, batch: AtomsBatch) -> Tensor:
        return fused_get(net, self.species, batch, self.rows, "numba")


def gradients(features: Tensor, batch: AtomsBatch, seed: int = 0) -> tuple[Tensor, ...]:
    """Features and the derivatives of a random sum of them by positions and cell."""
    torch.manual_seed(seed)
    weights = torch.randn(features.shape, dtype=features.dtype)
    grads = torch.autograd.grad((weights * features).sum(), (batch.positions, batch.cell))
    return features.detach(), *grads


def relative(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-300))


def tabulated(net: GET, case: Case, batch: AtomsBatch) -> Tensor:
    """The reference layers with the table's features in the place of the radial ones."""
    pairs = case.neighbors.bind(batch).pairs(PairRequest(CUTOFF, "full"))
    table = fused_weights(net).table
    published = torch.argsort(head_fastest(net.channels, net.options["heads"]))
    x = pairs.distance / table.spacing
    knot = x.detach().long().clamp(max=table.n_intervals - 1)
    powers = torch.stack([(x - knot) ** k for k in range(4)], dim=1)
    powers = powers * (pairs.distance < CUTOFF)[:, None]
    feature = torch.einsum("ek,ekc->ec", powers, table.coefficients[knot])[:, published]
    cut = torch.einsum("ek,ek->e", powers, table.envelope_coefficients[knot])
    edges = GETEdges(pairs.i, pairs.j, feature, cut, pairs.vector / pairs.distance[:, None])
    features, v = net.embedding(case.species), None
    for layer in net.layers:
        features, v = layer(features, v, edges)
    return features


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("skin", [0.0, 0.8])
def test_backward_pass_is_the_gradient_of_the_tabulated_network(
    shape: tuple[int, int, int], skin: float
) -> None:
    """The same kernels in float64: what is left is rounding."""
    net = network(*shape).double()
    case = Case.of(mixed_systems(8, seed=shape[0]), skin)
    batch, other = case.leaves(), case.leaves()
    ours = gradients(case.fused(net, batch), batch)
    expected = gradients(tabulated(net, case, other), other)
    for a, b in zip(ours, expected, strict=True):
        assert relative(a, b) < 1e-11


def test_gradient_by_differences() -> None:
    net = network(12, 6, 3).double()
    case = Case.of(mixed_systems(6, seed=5))
    batch = case.leaves()
    _, slope, slope_cell = gradients(case.fused(net, batch), batch)
    torch.manual_seed(1)
    move, strain = torch.randn_like(slope), torch.randn_like(slope_cell)
    strain *= batch.periodic[:, None, None]
    values, step = [], 1e-5
    for sign in (1.0, -1.0):
        shifted = batch.moved(
            batch.positions.detach() + sign * step * move,
            batch.cell.detach() + sign * step * strain,
        )
        torch.manual_seed(0)
        weights = torch.randn(case.batch.n_atoms, 12, dtype=torch.float64)
        values.append(float((weights * case.fused(net, shifted)).sum()))
    expected = (slope * move).sum() + (slope_cell * strain).sum()
    # The table's slope is continuous and its curvature is not: first order in the step at a knot.
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(expected), rel=1e-6)


def crowded(n: int, seed: int) -> Atoms:
    """A triclinic box with some 300 neighbours to each atom."""
    rng = np.random.default_rng(seed)
    cell = np.array([[6.0, 0.0, 0.0], [1.5, 5.5, 0.0], [-1.0, 0.8, 5.0]])
    grid = np.stack(np.meshgrid(*[np.arange(6) / 6] * 3), -1).reshape(-1, 3)[:n]
    positions = grid @ cell + 0.05 * rng.normal(size=(len(grid), 3))
    return Atoms(rng.choice(ELEMENTS, len(grid)), positions, cell=cell, pbc=True)


@pytest.mark.parametrize("envelope", ["polynomial", "cosine"])
@pytest.mark.parametrize("shape", [(64, 16, 3), (48, 16, 2), (16, 4, 3)])
def test_fast_is_the_reference_on_random_systems(
    shape: tuple[int, int, int], envelope: str
) -> None:
    """Molecules, ions, single atoms, cells smaller than the cutoff, crowded boxes, in one batch."""
    torch.manual_seed(1)
    options = {"cutoff": CUTOFF, "n_radial": 8, "envelope": envelope}
    sizes = dict(zip(("channels", "heads", "layers"), shape, strict=True))
    term = ShortRange(ELEMENTS, "get", {**sizes, **options}, hidden=(16,))
    potential = HybridPotential({"net": term}, ELEMENTS).requires_grad_(False)
    batch = AtomsBatch.from_atoms([*mixed_systems(49, seed=sum(shape)), crowded(216, 0)])
    neighbors = potential.neighbor_list(skin=0.5)
    fast = potential.use_kernels("auto")(batch, neighbors)
    # In float64: in float32 the reference itself is off by up to 4e-6 here, more than the kernels.
    exact = potential.set_dtype(torch.float64)(batch, neighbors)
    assert potential.backend(batch.device) is None
    own = exact.energy - batch.system_sum(term.reference_energy[term.species(batch.numbers)])
    assert own.abs().max() > 0.1
    # Relative to the atomic energies, whose sum cancels to a tenth in the crowded box, and to the
    # 1 eV of the terms that an atomic energy is summed from.
    scale = batch.system_sum(exact.energies.abs()).clamp(min=1.0)
    assert ((fast.energy - exact.energy).abs() / scale).max() <= 1e-6
    assert relative(fast.forces, exact.forces) < 1e-5  # type: ignore[arg-type]
    assert relative(fast.stress, exact.stress) < 1e-5  # type: ignore[arg-type]
    features = "node_features"
    assert relative(fast.fields[features], exact.fields[features]) < 2e-6
    single = Case.of([crowded(216, 0)])
    assert int(single.rows.count.max()) > 280


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_nothing(n_threads: int) -> None:
    net, case = network(), Case.of([crowded(216, k) for k in range(3)])
    results, before = [], torch.get_num_threads()
    assert case.batch.n_atoms > FEWEST
    try:
        for n in (1, n_threads):
            torch.set_num_threads(n)
            batch = case.leaves()
            results.append(gradients(case.fused(net, batch), batch))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_several_evaluations_at_once_do_not_meet() -> None:
    """Buffers belong to one evaluation until its backward pass, in this thread and in others."""
    net = network()
    cases = [Case.of(mixed_systems(5, seed=1)), Case.of(mixed_systems(5, seed=1))]
    cases[1].batch.positions.add_(0.01)
    cases[1].batch.positions[0] += 0.1
    expected = []
    for case in cases:
        batch = case.leaves()
        expected.append(gradients(case.fused(net, batch), batch))
    batches = [case.leaves() for case in cases]
    both = [case.fused(net, batch) for case, batch in zip(cases, batches, strict=True)]
    for features, batch, result in zip(both, batches, expected, strict=True):
        for a, b in zip(gradients(features, batch), result, strict=True):
            assert torch.equal(a, b)
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(10):
            batch = cases[k].leaves()
            features = cases[k].fused(net, batch)
            if not torch.equal(features, expected[k][0]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k % 2,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_second_derivatives_and_second_passes_are_refused() -> None:
    net, case = network(), Case.of(mixed_systems(4))
    batch = case.leaves()
    squares = case.fused(net, batch).square().sum()
    (slope,) = torch.autograd.grad(squares, batch.positions, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()
    total = case.fused(net, batch).sum()
    torch.autograd.grad(total, batch.positions, retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        torch.autograd.grad(total, batch.positions)


def test_systems_do_not_see_each_other() -> None:
    net = network()
    structures = mixed_systems(8, seed=3)
    case = Case.of(structures)
    batch = case.leaves()
    features = case.fused(net, batch)
    mine = batch.system == 2
    slopes = torch.autograd.grad(features[mine].sum(), (batch.positions, batch.cell))
    assert not slopes[0][~mine].any()
    assert not slopes[1][torch.arange(8) != 2].any()
    alone = Case.of([structures[2]])
    other = alone.leaves()
    torch.testing.assert_close(alone.fused(net, other), features[mine], rtol=1e-6, atol=1e-6)


def test_order_of_atoms_does_not_matter() -> None:
    net, atoms = network(), crowded(60, 1)
    order = np.random.default_rng(0).permutation(len(atoms))
    one, two = Case.of([atoms]), Case.of([atoms[order]])
    a, b = one.fused(net, one.leaves()), two.fused(net, two.leaves())
    torch.testing.assert_close(b, a[torch.as_tensor(order)], rtol=1e-5, atol=1e-5)


def test_nothing_at_and_beyond_the_cutoff() -> None:
    net = network().double()
    alone = Case.of([Atoms("Li")])
    expected = alone.fused(net, alone.leaves())
    for factor in (1.0, 1.0 + 1e-12, 1.1):
        case = Case.of([Atoms("LiF", [[0, 0, 0], [CUTOFF * factor, 0, 0]])], skin=0.8)
        assert int(case.rows.count.sum()) == 2
        batch = case.leaves()
        features, slope, _ = gradients(case.fused(net, batch), batch)
        torch.testing.assert_close(features[:1], expected, rtol=1e-14, atol=1e-14)
        assert not slope.any()


def test_a_position_that_is_no_number_gives_no_number() -> None:
    """Within a skin nothing is searched anew, so that such positions reach the kernels."""
    net, case = network(), Case.of([crowded(40, 0)], skin=0.5)
    batch = case.leaves()
    with torch.no_grad():
        batch.positions[3, 1] = torch.nan
    features, slope, _ = gradients(case.fused(net, batch), batch)
    assert features[3].isnan().all()
    assert slope[3].isnan().all()


@pytest.mark.parametrize("heads", [4, 16])
def test_table_is_within_its_tolerance(heads: int) -> None:
    net = network(48, heads).double()
    table = tabulate(net)
    torch.manual_seed(0)
    r = 0.5 + (CUTOFF - 0.5) * torch.rand(4000, dtype=torch.float64)
    value, slope = radial_functions(net, r)
    x = r / table.spacing
    t = (x - x.floor())[:, None]
    c0, c1, c2, c3 = table.coefficients[x.long()].unbind(1)
    order = head_fastest(48, heads)
    error = (c1 + t * (2 * c2 + 3 * t * c3)) / table.spacing - slope[:, order]
    assert float(error.abs().max() / slope[:, :-1].abs().max()) < 1.5 * TOLERANCE
    error = c0 + t * (c1 + t * (c2 + t * c3)) - value[:, order]
    assert float(error.abs().max()) < 1e-7
    end = table.coefficients[-1].sum(0)
    torch.testing.assert_close(end, torch.zeros_like(end), rtol=0, atol=1e-12)
    # values and slopes of the functions themselves, against the network's own modules
    feature = torch.nn.functional.silu(net.radial(net.basis(r) * net.envelope(r)[:, None]))
    torch.testing.assert_close(value[:, :-1], feature, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(value[:, -1], net.envelope(r), rtol=1e-12, atol=1e-12)
    step = 1e-5
    ahead, behind = radial_functions(net, r + step)[0], radial_functions(net, r - step)[0]
    torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=1e-6, atol=1e-6)


def changes() -> list[Any]:
    def in_place(net: GET) -> None:
        with torch.no_grad():
            net.layers[1].qkv.weight.mul_(1.5)  # type: ignore[union-attr, operator]

    def basis(net: GET) -> None:
        with torch.no_grad():
            net.basis.means.add_(0.05)

    def data(net: GET) -> None:
        net.layers[0].out.weight.data = net.layers[0].out.weight.data * 1.5  # type: ignore[union-attr]

    def loaded(net: GET) -> None:
        state = {name: 1.1 * value for name, value in net.state_dict().items()}
        net.load_state_dict(state, assign=True)

    def module(net: GET) -> None:
        net.layers[1].vec = torch.nn.Linear(16, 48, bias=False)  # type: ignore[union-attr]

    return [in_place, basis, data, loaded, module]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_weights_follow_the_parameters(change: Any) -> None:
    net, case = network(), Case.of(mixed_systems(4))
    before = case.fused(net, case.leaves())
    assert fused_weights(net) is fused_weights(net)
    change(net)
    after = case.fused(net, case.leaves())
    assert relative(after, before) > 1e-3
    assert relative(after, case.reference(net, case.leaves())) < 2e-6


class TorchMessages:
    """The backend of `layers.NumbaPass` written with torch's operations and autograd."""

    @dataclass
    class Accumulators:
        positions: Tensor
        cell: Tensor

        @classmethod
        def zeros(cls, n_atoms: int, device: torch.device, cell: bool) -> Any:
            return cls(torch.zeros(n_atoms, 3).double(), torch.zeros(1, 3, 3).double())

        def d_cell(self, system: Tensor, n_systems: int) -> Tensor:
            return self.cell

    @staticmethod
    def prepare_edges(
        positions: Tensor, cell: Tensor, system: Tensor, rows: Rows, cutoff: float, table: Any
    ) -> Any:
        i = torch.repeat_interleave(torch.arange(len(positions)), rows.count.long())
        return positions, cell, i, rows.j.long(), rows.shift.double(), cutoff

    @staticmethod
    def messages(
        qkv: tuple[Tensor, ...], positions: Tensor, cell: Tensor, edges: Any, table: Any, heads: int
    ) -> tuple[Tensor, Tensor]:
        (q, k, v), (_, _, i, j, shift, cutoff) = qkv, edges
        vector = positions[j] - positions[i] + shift @ cell[0]
        r = vector.norm(dim=1)
        keep = r < cutoff
        i, j, r, u = i[keep], j[keep], r[keep], (vector / r[:, None])[keep]
        x = r / table.spacing
        knot = x.detach().long()
        powers = torch.stack([(x - knot) ** n for n in range(4)], dim=1)
        e = torch.einsum("ek,ekc->ec", powers, table.coefficients[knot])
        f = torch.einsum("ek,ek->e", powers, table.envelope_coefficients[knot])
        s = (q[i] * k[j]).view(len(i), -1, heads).sum(1)
        a = (torch.nn.functional.silu(s) * f[:, None]).repeat(1, q.shape[1] // heads)
        carried = v[j] * e
        m = torch.zeros_like(q).index_add(0, i, carried * a)
        outer = u[:, :, None] * carried[:, None, :]
        return m, q.new_zeros(len(q), 3, q.shape[1]).index_add(0, i, outer)

    @classmethod
    def forward_messages(
        cls,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        edges: Any,
        table: Any,
        heads: int,
        vectors: bool,
        row_of: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        if row_of is not None:
            q, k, v = (t[row_of] for t in (q, k, v))
        m, big_m = cls.messages((q, k, v), edges[0], edges[1], edges, table, heads)
        return m, big_m if vectors else None

    @classmethod
    def backward_messages(
        cls,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        grad_m: Tensor,
        grad_big_m: Tensor | None,
        edges: Any,
        table: Any,
        heads: int,
        sums: Any,
        nodes: bool = True,
        row_of: Tensor | None = None,
    ) -> Any:
        if row_of is not None:
            q, k, v = (t[row_of] for t in (q, k, v))
        leaves = [t.detach().requires_grad_() for t in (q, k, v, edges[0], edges[1])]
        with torch.enable_grad():
            m, big_m = cls.messages(tuple(leaves[:3]), *leaves[3:], edges, table, heads)  # type: ignore[arg-type]
            total = (m * grad_m).sum()
            if grad_big_m is not None:
                total = total + (big_m * grad_big_m).sum()
        grads = torch.autograd.grad(total, leaves)
        sums.positions += grads[3]
        sums.cell += grads[4]
        return grads[:3] if nodes else None


@pytest.mark.parametrize("shape", SHAPES)
def test_layers_around_another_backend(shape: tuple[int, int, int]) -> None:
    """What a GPU runs between its kernels, here around messages made of torch's operations."""
    net, case = network(*shape).double(), Case.of([crowded(40, 2)], skin=0.5)
    weights = fused_weights(net)
    torch.manual_seed(0)
    gradient = torch.randn(40, shape[0], dtype=torch.float64)
    arguments = (weights, case.species, case.batch, case.rows)
    with torch.no_grad():
        plain = layers.TritonPass(*arguments, TorchMessages)
        fused = NumbaPass(*arguments)
        torch.testing.assert_close(plain.forward(), fused.forward(), rtol=1e-11, atol=1e-11)
        for a, b in zip(plain.backward(gradient), fused.backward(gradient), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("lanes", "small"), [(64, 16), (48, 12), (48, 16), (30, 3), (7, 7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_against_numpy(lanes: int, small: int, dtype: Any) -> None:
    @numba.njit
    def kernel(a: Any, out: Any) -> None:
        for i in range(a.shape[0]):
            x = simd.load(a, i, 0, lanes)
            y = simd.repeat(simd.fold(x, small), lanes) * 2.0 - x
            simd.store(out, i, 0, y)
            out[i, lanes] = simd.total(x)

    a = np.random.default_rng(0).normal(size=(5, lanes)).astype(dtype)
    out = np.zeros((5, lanes + 1), dtype)
    kernel(a, out)
    folded = a.astype(float).reshape(5, -1, small).sum(1)
    tolerance = {"rtol": 0, "atol": 3e-6 if dtype is np.float32 else 1e-14}
    np.testing.assert_allclose(out[:, :-1], 2 * np.tile(folded, lanes // small) - a, **tolerance)
    np.testing.assert_allclose(out[:, -1], a.astype(float).sum(1), **tolerance)


def test_sigmoid() -> None:
    @numba.njit
    def kernel(a: Any, out: Any) -> None:
        for i in range(a.shape[0]):
            simd.store(out, i, 0, simd.sigmoid(simd.load(a, i, 0, 16)))

    x = np.concatenate([np.linspace(-100, 100, 16 * 5000), np.linspace(-1, 1, 1600)])
    x = x.reshape(-1, 16).astype(np.float32)
    out = np.zeros_like(x)
    kernel(x, out)
    exact = 1.0 / (1.0 + np.exp(-x.astype(float)))
    assert np.abs(out - exact).max() < 1e-7
    inside = np.abs(x) < 80
    assert np.abs(out / exact - 1)[inside].max() < 1e-5
    extremes = np.array([[-np.inf, np.inf, -1e30, 1e30] * 4], np.float32)
    out = np.zeros_like(extremes)
    kernel(extremes, out)
    np.testing.assert_allclose(out, [[0.0, 1.0, 0.0, 1.0] * 4], rtol=0, atol=1e-37)


def test_published_weights_on_the_reference_boxes(shared_data: Path) -> None:
    folder = shared_data / "bamboo"
    if not (folder / "weights.npz").is_file():
        pytest.skip(f"no weights at {folder}")
    potential = from_bamboo(folder / "weights.npz").subset(["short_range"])
    structures = []
    with np.load(folder / "reference.npz") as file:
        for name in sorted({key.split("/")[0] for key in file.files}):
            parts = (file[f"{name}/{part}"] for part in ("numbers", "positions", "cell", "pbc"))
            numbers, positions, cell, pbc = parts
            structures.append(Atoms(numbers, positions, cell=cell, pbc=pbc))
    batch = AtomsBatch.from_atoms(structures)
    fast = potential.use_kernels("auto")(batch)
    slow = potential.use_kernels("reference")(batch)
    torch.testing.assert_close(fast.energy, slow.energy, rtol=1e-6, atol=0)
    assert relative(fast.forces, slow.forces) < 1e-5  # type: ignore[arg-type]
    assert relative(fast.stress, slow.stress) < 1e-5  # type: ignore[arg-type]
