"""E3Net against e3nn's own operations, its symmetries and derivatives, and where it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_models import ELEMENTS
from e3nn import nn as e3nn_layers
from e3nn import o3
from e3nn.util.test import assert_equivariant
from torch import Tensor

import hff_ase.testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import ConfigError
from hff_ase.kernels.e3 import convolution as fused_convolution
from hff_ase.kernels.threads import FEWEST
from hff_ase.nets import NETWORKS
from hff_ase.nets.e3 import E3Net
from hff_ase.nets.e3_algebra import dimension, irreps, spherical_harmonics
from hff_ase.nets.e3_convolution import E3Edges, convolve, couplings, reference
from hff_ase.nets.e3_layers import SIGMOID, SILU, Product, gate
from hff_ase.nets.presets import PRESETS
from hff_ase.potential import HybridPotential
from hff_ase.terms.short_range import ShortRange

KINDS: dict[str, dict[str, Any]] = {
    "l0": {"l_max": 0, "layers": 2},
    "l1": {"l_max": 1, "layers": 3},
    "l2": {"l_max": 2, "layers": 3, "basis": "exp-normal", "radial_hidden": []},
    "many-body": {"l_max": 1, "l_edge": 2, "layers": 2, "correlation": 3},
}
SMALL = {"channels": 4, "n_radial": 4, "radial_hidden": [6], "cutoff": 3.5, "avg_neighbors": 8.0}


def network(kind: str, seed: int = 0, **options: Any) -> E3Net:
    torch.manual_seed(seed)
    return E3Net(3, **{**SMALL, **KINDS[kind], **options}).double()


def scattered(n: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    positions = 3.5 * torch.rand(n, 3, generator=generator, dtype=torch.float64)
    return torch.randint(3, (n,), generator=generator), positions


def edges(positions: Tensor, cutoff: float = 3.5) -> tuple[Tensor, Tensor]:
    distance = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
    i, j = torch.nonzero((distance < cutoff).fill_diagonal_(False)).T
    return i, j


def features(net: E3Net, species: Tensor, positions: Tensor) -> Tensor:
    i, j = edges(positions, net.cutoff)
    return net(species, i, j, positions[j] - positions[i])


def channels_first(x: Tensor) -> Tensor:
    """Features [n, rows, channels] as e3nn has them: [n, channels of degree 0, of degree 1 ...]."""
    l_max = round(x.shape[1] ** 0.5) - 1
    parts = [x[:, k**2 : (k + 1) ** 2].transpose(1, 2).flatten(1) for k in range(l_max + 1)]
    return torch.cat(parts, dim=1)


def channels_last(x: Tensor, channels: int) -> Tensor:
    """The inverse of `channels_first`."""
    out, first = [], 0
    while first < x.shape[1]:
        width = 2 * len(out) + 1
        block = x[:, first : first + width * channels]
        out.append(block.unflatten(1, (channels, width)).transpose(1, 2))
        first += width * channels
    return torch.cat(out, dim=1)


@pytest.mark.parametrize(("l_in", "l_edge", "l_out"), [(0, 2, 2), (1, 1, 1), (2, 2, 2), (2, 3, 0)])
@pytest.mark.parametrize("fast", [False, True])
def test_edge_sum_is_the_tensor_product_of_e3nn(
    l_in: int, l_edge: int, l_out: int, fast: bool
) -> None:
    torch.manual_seed(0)
    channels = 4
    _, positions = scattered()
    i, j = edges(positions)
    vector = positions[j] - positions[i]
    x = torch.randn(len(positions), dimension(l_in), channels, dtype=torch.float64)
    paths = couplings(l_in, l_edge, l_out).paths
    weights = torch.randn(len(i), len(paths), channels, dtype=torch.float64)
    harmonics = spherical_harmonics(l_edge, vector)
    ours = convolve(x, weights, E3Edges(i, j, harmonics, vector, fast), l_edge, l_out)

    product = o3.TensorProduct(
        irreps(channels, l_in),
        irreps(1, l_edge),
        irreps(channels, l_out),
        [(p.l1, p.l2, p.l3, "uvu", True) for p in paths],
        shared_weights=False,
        internal_weights=False,
    ).double()
    message = product(channels_first(x)[j], harmonics, weights.flatten(1))
    summed = torch.zeros(len(x), message.shape[1], dtype=torch.float64).index_add(0, i, message)
    # e3nn casts its coefficients from float32
    torch.testing.assert_close(channels_first(ours), summed, rtol=1e-6, atol=1e-6)


def test_gate_is_that_of_e3nn() -> None:
    x = torch.randn(7, dimension(2), 5, dtype=torch.float64)
    gates = torch.randn(7, 1, 10, dtype=torch.float64)
    parts = [torch.cat([x[:, :1], gates], dim=2), x[:, 1:4], x[:, 4:]]
    theirs = e3nn_layers.Gate(
        "5x0e", [torch.nn.functional.silu], "10x0e", [torch.sigmoid], "5x1o+5x2e"
    )
    flat = torch.cat([parts[0].flatten(1), channels_first(x)[:, 5:]], dim=1)
    ours = channels_first(gate(parts, 5))
    # e3nn estimates the norms of its activations from random numbers
    torch.testing.assert_close(ours, theirs(flat), rtol=3e-3, atol=1e-12)
    z = np.linspace(-12.0, 12.0, 20001)
    weight = np.exp(-0.5 * z**2)
    weight = weight / weight.sum()
    sigmoid = 1.0 / (1.0 + np.exp(-z))
    assert pytest.approx((weight * sigmoid**2).sum() ** -0.5, rel=1e-8) == SIGMOID
    assert pytest.approx((weight * (z * sigmoid) ** 2).sum() ** -0.5, rel=1e-8) == SILU


def test_product_of_second_order_is_the_tensor_product_of_e3nn() -> None:
    torch.manual_seed(0)
    net = Product(2, 3, 2, 1, 2).double()
    species = torch.tensor([0, 1, 1, 0])
    a = torch.randn(4, dimension(2), 3, dtype=torch.float64)
    instructions = [  # every way to 0e and 1o, once
        (0, 0, 0, "uuu", True),
        (1, 1, 0, "uuu", True),
        (2, 2, 0, "uuu", True),
        (0, 1, 1, "uuu", True),
        (1, 2, 1, "uuu", True),
    ]
    product = o3.TensorProduct(
        irreps(3, 2), irreps(3, 2), irreps(3, 1), instructions,
        shared_weights=False, internal_weights=False,
    ).double()  # fmt: skip
    weights = net.weights[0][species].flatten(1)
    scale = net.scale[species]
    squared = channels_last(product(channels_first(a), channels_first(a), weights), 3)
    expected = a[:, :4] * scale[:, :1] + squared * scale[:, 1:]
    torch.testing.assert_close(net(a, species), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_every_layer_are_equivariant(kind: str) -> None:
    """e3nn's own check with random rotations and the inversion, to 1e-10."""
    net = network(kind)
    species, positions = scattered()
    i, j = edges(positions)
    seen: list[Tensor] = []
    for layer in net.layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output))

    def hidden(vector: Tensor) -> Tensor:
        seen.clear()
        scalars = net(species, i, j, vector)
        # the hidden layers are as the network declares them
        inner = [channels_first(x) for x in seen[:-1]]
        assert all(x.shape[1] == o3.Irreps(net.irreps_hidden).dim for x in inner)
        return torch.cat([*inner, scalars], dim=1)

    many = o3.Irreps(net.irreps_hidden) * (len(net.layers) - 1)
    out = o3.Irreps(many) + o3.Irreps(f"{net.channels}x0e")
    vector = positions[j] - positions[i]
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn's check makes its rotations in it
    try:
        assert_equivariant(hidden, [vector], [o3.Irreps("1o")], [out], tolerance=1e-10, ntrials=4)
    finally:
        torch.set_default_dtype(default)
    assert float(seen[0].detach().std()) > 0.05  # there is something to turn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("threads", "n_atoms"), [(1, 11), (3, FEWEST + 1)])
def test_fused_edge_sum_and_its_derivatives_are_the_reference(
    kind: str, threads: int, n_atoms: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        net = network(kind)
        species, positions = scattered(n_atoms)
        positions = positions * (n_atoms / 11) ** (1 / 3)  # as dense
        results = []
        for fast in (True, False):
            net.fast = fast
            x = positions.clone().requires_grad_()
            out = features(net, species, x)
            cotangent = torch.arange(out.numel(), dtype=torch.float64).view_as(out).cos()
            (force,) = torch.autograd.grad((out * cotangent).sum(), x, create_graph=True)
            loss = force.square().sum() + out.sum()
            parameters = [*net.parameters(), x]
            results.append([out, force, *torch.autograd.grad(loss, parameters)])
    finally:
        torch.set_num_threads(before)
    for fast_result, plain in zip(*results, strict=True):
        scale = float(plain.detach().abs().max())
        torch.testing.assert_close(fast_result, plain, rtol=0.0, atol=1e-12 * max(scale, 1.0))


def test_fused_edge_sum_against_differences() -> None:
    torch.manual_seed(0)
    _, positions = scattered(4)
    i, j = edges(positions)
    table = couplings(1, 1, 1)
    inputs = [
        torch.randn(4, 4, 4), torch.randn(len(i), len(table.paths), 4),
        torch.randn(len(i), len(table.row_in)),
    ]  # fmt: skip
    inputs = [x.double().requires_grad_() for x in inputs]

    def function(*x: Tensor) -> Tensor:
        return fused_convolution.fused(*x, i, j, table)

    torch.testing.assert_close(function(*inputs), reference(*inputs, i, j, table))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("kind", ["l2", "many-body"])
def test_gradients_and_their_gradients_against_differences(kind: str) -> None:
    net = network(kind)
    species, positions = scattered(4)
    i, j = edges(positions)

    def scalar(x: Tensor) -> Tensor:
        return net(species, i, j, x[j] - x[i]).square().sum()

    x = positions.clone().requires_grad_()
    assert torch.autograd.gradcheck(scalar, (x,))
    assert torch.autograd.gradgradcheck(scalar, (x,), rtol=1e-3, atol=1e-4)


def test_the_order_of_edges_does_not_matter_and_a_repeat_gives_the_same_bits() -> None:
    net = network("l2").float()
    species, positions = scattered()
    positions = positions.float()
    i, j = edges(positions)
    plain = net(species, i, j, positions[j] - positions[i])
    assert torch.equal(plain, net(species, i, j, positions[j] - positions[i]))
    shuffled = torch.randperm(len(i), generator=torch.Generator().manual_seed(2))
    i, j = i[shuffled], j[shuffled]
    again = net(species, i, j, positions[j] - positions[i])
    torch.testing.assert_close(again, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edge_at_or_beyond_the_cutoff_has_no_influence_at_all(kind: str) -> None:
    """The force is not small but zero, so that a list may be padded."""
    net = network(kind)
    species, positions = scattered(6)
    i, j = edges(positions)
    vector = positions[j] - positions[i]
    plain = net(species, i, j, vector)
    for factor in (1.0, 1.0 + 1e-15, 1.001, 3.0):
        far = torch.tensor([[net.cutoff * factor, 0.0, 0.0]], dtype=torch.float64)
        both = torch.cat([vector, far, -far]).requires_grad_()
        extra_i, extra_j = torch.tensor([0, 3]), torch.tensor([3, 0])
        padded = net(species, torch.cat([i, extra_i]), torch.cat([j, extra_j]), both)
        (slope,) = torch.autograd.grad(padded.sum(), both)
        torch.testing.assert_close(padded, plain, rtol=1e-13, atol=1e-13)
        assert not slope[-2:].any()


def third_derivative(net: torch.nn.Module, r: float) -> float:
    """Of the sum of features of two atoms in their distance."""
    distance = torch.tensor(r, dtype=torch.float64, requires_grad=True)
    direction = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    vector = torch.cat([direction, -direction]) * distance
    value = net(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1, 0]), vector).sum()
    for _ in range(3):
        (value,) = torch.autograd.grad(value, distance, create_graph=True)
    return value.item()


@pytest.mark.parametrize("name", ["e3", "get"])
def test_third_derivative_is_continuous_at_the_cutoff(name: str) -> None:
    """It goes to zero with the distance from the cutoff; with the other envelopes it does not."""
    left: dict[str, float] = {}
    for envelope in ("smooth", "polynomial", "cosine"):
        torch.manual_seed(0)
        options = {"l_max": 1, "layers": 2} if name == "e3" else {"heads": 4}
        net = NETWORKS[name](3, channels=4, cutoff=3.5, envelope=envelope, **options).double()
        net.fast = False  # the fused loops have two derivatives
        inside = max(abs(third_derivative(net, r)) for r in (1.5, 2.0, 2.5, 3.0))
        near = [abs(third_derivative(net, 3.5 - h)) / inside for h in (1e-3, 1e-5)]
        left[envelope] = near[1]
        if envelope == "smooth":
            assert near[1] < 0.02 * near[0]  # linearly
        assert third_derivative(net, 3.5 + 1e-9) == 0.0
    assert left["smooth"] < 1e-3
    assert min(left["polynomial"], left["cosine"]) > 100 * left["smooth"]


def term(kind: str = "l2", seed: int = 0) -> ShortRange:
    torch.manual_seed(seed)
    made = ShortRange(ELEMENTS, "e3", {**SMALL, "cutoff": 4.0, **KINDS[kind]}, hidden=(8,))
    with torch.no_grad():
        made.reference_energy.copy_(torch.linspace(-30.0, -1.0, len(ELEMENTS)))
    return made


@pytest.mark.parametrize(("kind", "dtype"), [("l2", torch.float64), ("many-body", torch.float32)])
def test_the_potential_passes_every_check(kind: str, dtype: torch.dtype) -> None:
    potential = HybridPotential({"net": term(kind)}, ELEMENTS).set_dtype(dtype)
    boxes = [checks.ionic_box(), checks.cluster("H2O"), checks.cluster("LiF")]
    checks.check_potential(potential, boxes)


def test_isolated_atoms_and_no_edges() -> None:
    for kind in KINDS:
        net = network(kind)
        none = torch.zeros(0, dtype=torch.long)
        x = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
        out = net(torch.tensor([0, 2, 0]), none, none, x)
        assert out.shape == (3, net.channels)
        assert bool(torch.isfinite(out).all())
        # rows of one product of matrices, which a library may sum in different ways
        torch.testing.assert_close(out[0], out[2], rtol=1e-12, atol=1e-14)
        (slope,) = torch.autograd.grad(out.square().sum(), x)
        assert slope.shape == (0, 3)


@pytest.mark.parametrize("name", ["e3", "get"])
def test_a_network_in_training_is_the_same_frozen(name: str) -> None:
    """torch chooses how to multiply by whether a matrix wants a gradient, unless it is told."""
    options = {"heads": 2} if name == "get" else {"correlation": 2}
    torch.manual_seed(3)
    net = NETWORKS[name](len(ELEMENTS), channels=8, layers=3, cutoff=4.0, **options)
    species, positions = scattered()
    i, j = edges(positions)
    vector = (positions[j] - positions[i]).float()
    trained = net(species, i, j, vector)
    assert trained.requires_grad
    assert torch.equal(net.requires_grad_(False)(species, i, j, vector), trained)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    potential = HybridPotential({"net": term("many-body")}, ELEMENTS)
    box = checks.ionic_box()
    save_model(tmp_path / "e3.hff", potential, ModelInfo("e3"), [box])
    again, _ = load_model(tmp_path / "e3.hff")
    for name, value in potential.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    loaded = dict(again.named_terms())["net"]
    assert isinstance(loaded, ShortRange)
    assert isinstance(loaded.net, E3Net)
    assert json.loads(json.dumps(loaded.net.options)) == loaded.net.options
    batch = AtomsBatch.from_atoms(box)
    before, after = potential(batch), again(batch)
    # The file promises the weights; the energies are those of float32 sums in any order.
    torch.testing.assert_close(after.energy, before.energy, rtol=0, atol=1e-5 * len(box))
    # float64 from a float32 file: coefficients are exact in either
    precise = again.set_dtype(torch.float64)
    checks.check_rotation(precise, [box], tolerance=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 0},
        {"layers": 0},
        {"correlation": 0},
        {"radial_hidden": [0]},
        {"l_max": -1},
        {"l_max": 2, "l_edge": 1},
        {"cutoff": float("nan")},
        {"avg_neighbors": 0.0},
        {"basis": "fourier"},
        {"envelope": "sharp"},
    ],
)
def test_sizes_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        E3Net(2, **options)


def test_presets_are_networks_that_can_be_made() -> None:
    names = [name for name in PRESETS if name.startswith("e3-")]
    assert names
    for name in names:
        made = ShortRange(("H", "O"), "e3", {"preset": name, "channels": 4})
        assert made.net.options == E3Net(2, **{**PRESETS[name], "channels": 4}).options
