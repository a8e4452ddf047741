"""The GET network against the published equations written out in loops, and its symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from core_models import ELEMENTS, SIZES, short_range
from e3nn import o3
from e3nn.util.test import assert_equivariant
from torch import Tensor

import hff_ase.testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.nets.get import GET, GETEdges
from hff_ase.nets.presets import PRESETS
from hff_ase.nets.radial import Envelope
from hff_ase.potential import HybridPotential
from hff_ase.terms.short_range import ShortRange

SHAPES = ("cosine", "polynomial", "smooth")


def network(envelope: str = "polynomial", layers: int = 3, seed: int = 0) -> GET:
    torch.manual_seed(seed)
    net = GET(3, 12, heads=3, layers=layers, n_radial=6, cutoff=3.5, envelope=envelope).double()
    with torch.no_grad():  # every parameter has a say, biases and norms included
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def edges(positions: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    distance = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
    i, j = torch.nonzero((distance < cutoff).fill_diagonal_(False)).T
    return i, j


def features(net: GET, species: Tensor, positions: Tensor) -> Tensor:
    i, j = edges(positions, net.cutoff)
    return net(species, i, j, positions[j] - positions[i])


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def written_out(net: GET, species: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The published equations, atom by atom and head by head, in numpy.

    Vectors point from the receiver to the sender, as ours do: the published ones point the other
    way, which changes the sign of all vectors and none of the scalars.
    """
    w = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    heads, width = net.layers[0].heads, net.channels // net.layers[0].heads
    n, channels = len(species), net.channels
    x = w["embedding.weight"][species].copy()
    vectors = np.zeros((n, 3, channels))

    def edge(i: int, j: int) -> tuple[np.ndarray, float, np.ndarray]:
        d = positions[j] - positions[i]
        r = np.linalg.norm(d)
        y = r / net.cutoff
        if net.envelope.shape == "cosine":
            f = 0.5 * (math.cos(math.pi * y) + 1.0)
        elif net.envelope.shape == "smooth":
            f = (1.0 - y) ** 4 * sum(math.comb(k + 3, 3) * y**k for k in range(8))
        else:
            f = 1.0 - 28.0 * y**6 + 48.0 * y**7 - 21.0 * y**8
        rbf = [
            f * math.exp(-beta * (math.exp(-5.0 * r / net.cutoff) - mu) ** 2)
            for mu, beta in zip(w["basis.means"], w["basis.betas"], strict=True)
        ]
        return silu(w["radial.weight"] @ np.array(rbf)), f, d / r

    for layer in range(len(net.layers)):
        prefix = f"layers.{layer}."
        first, last = layer == 0, layer == len(net.layers) - 1
        centred = x - x.mean(1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        normed = normed * w[prefix + "norm.weight"] + w[prefix + "norm.bias"]
        qkv = normed @ w[prefix + "qkv.weight"].T + w[prefix + "qkv.bias"]
        m, big_m = np.zeros((n, channels)), np.zeros((n, 3, channels))
        for i in range(n):
            for j in range(n):
                if i == j or np.linalg.norm(positions[i] - positions[j]) >= net.cutoff:
                    continue
                e, f, u = edge(i, j)
                for h in range(heads):
                    own = slice(3 * h * width, 3 * (h + 1) * width)
                    q, _, _ = np.split(qkv[i, own], 3)
                    _, k, v = np.split(qkv[j, own], 3)
                    attention = silu(np.array(q @ k)) * f
                    out = slice(h * width, (h + 1) * width)
                    m[i, out] += v * e[out] * attention
                    big_m[i, :, out] += u[:, None] * (v * e[out])[None, :]
        o = m @ w[prefix + "out.weight"].T + w[prefix + "out.bias"]
        if first:
            x, vectors = x + o, big_m
            continue
        parts = np.split(vectors @ w[prefix + "vec.weight"].T, 2 if last else 3, axis=-1)
        product = (parts[0] * parts[1]).sum(1)
        split = np.split(o, 2 if last else 3, axis=-1)
        x = x + product * split[-2] + split[-1]
        if not last:
            vectors = vectors + parts[2] * split[0][:, None, :] + big_m
    return x


@pytest.mark.parametrize("envelope", SHAPES)
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_network_is_the_published_equations(envelope: str, layers: int) -> None:
    net = network(envelope, layers, seed=layers)
    atoms = molecule("CH3OH")
    species = np.searchsorted([1, 6, 8], atoms.numbers)
    ours = features(net, torch.as_tensor(species), torch.as_tensor(atoms.positions))
    expected = written_out(net, species, atoms.positions)
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-11, atol=1e-12)
    assert np.ptp(expected, axis=0).max() > 0.1  # atoms differ: the messages matter


def scattered(n: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    positions = 4.0 * torch.rand(n, 3, generator=generator, dtype=torch.float64)
    return torch.randint(3, (n,), generator=generator), positions


@pytest.mark.parametrize("envelope", SHAPES)
@pytest.mark.parametrize("improper", [False, True])
def test_features_are_invariant_and_their_gradient_turns_along(
    envelope: str, improper: bool
) -> None:
    net = network(envelope)
    species, positions = scattered()
    turn = torch.as_tensor(checks.random_rotation(np.random.default_rng(3), improper))
    weights = torch.randn(9, net.channels, dtype=torch.float64)

    def value_and_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        out = features(net, species, x)
        return out, torch.autograd.grad((weights * out).sum(), x)[0]

    plain, slope = value_and_gradient(positions)
    turned, slope_turned = value_and_gradient(positions @ turn.T + 7.0)
    torch.testing.assert_close(turned, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(slope_turned, slope @ turn.T, rtol=1e-10, atol=1e-10)


def test_the_order_of_atoms_and_edges_does_not_matter() -> None:
    net = network()
    species, positions = scattered()
    plain = features(net, species, positions)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        features(net, species[order], positions[order]), plain[order], rtol=1e-11, atol=1e-11
    )
    i, j = edges(positions, net.cutoff)
    shuffled = torch.randperm(len(i), generator=torch.Generator().manual_seed(2))
    i, j = i[shuffled], j[shuffled]
    again = net(species, i, j, positions[j] - positions[i])
    torch.testing.assert_close(again, plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("envelope", SHAPES)
def test_gradients_and_their_gradients_against_differences(envelope: str) -> None:
    net = network(envelope)
    species, positions = scattered(5)
    i, j = edges(positions, net.cutoff)

    def scalar(x: Tensor) -> Tensor:
        return net(species, i, j, x[j] - x[i]).square().sum()

    x = positions.clone().requires_grad_()
    assert torch.autograd.gradcheck(scalar, (x,))
    assert torch.autograd.gradgradcheck(scalar, (x,))


@pytest.mark.parametrize("envelope", SHAPES)
def test_an_edge_at_or_beyond_the_cutoff_has_no_influence_at_all(envelope: str) -> None:
    """The force is not small but zero, so that a list may be padded."""
    net = network(envelope)
    species, positions = scattered(6)
    i, j = edges(positions, net.cutoff)
    vector = positions[j] - positions[i]
    plain = net(species, i, j, vector)
    for factor in (1.0, 1.0 + 1e-15, 1.001, 3.0):
        far = torch.tensor([[net.cutoff * factor, 0.0, 0.0]], dtype=torch.float64)
        both = torch.cat([vector, far, -far]).requires_grad_()
        extra_i, extra_j = torch.tensor([0, 3]), torch.tensor([3, 0])
        padded = net(species, torch.cat([i, extra_i]), torch.cat([j, extra_j]), both)
        (slope,) = torch.autograd.grad(padded.sum(), both)
        # To rounding only: a matrix product of other length rounds otherwise.
        torch.testing.assert_close(padded, plain, rtol=1e-13, atol=1e-13)
        assert float(slope[-2:].abs().max()) <= (0.0 if factor > 1.0 else 1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_envelope_ends_with_its_derivatives(shape: str) -> None:
    """The polynomials go out with two continuous derivatives or more, the cosine with one."""
    envelope = Envelope(4.0, shape)
    r = torch.tensor([4.0 - 1e-7, 1e-7], dtype=torch.float64, requires_grad=True)
    value = envelope(r)
    (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    assert value[1].item() == pytest.approx(1.0, abs=1e-12)
    assert value[0].abs().item() < 1e-13
    assert slope.abs().max().item() < 1e-6
    jump = math.pi**2 / (2 * 4.0**2)
    expected = jump if shape == "cosine" else 0.0
    assert float(curvature[0]) == pytest.approx(expected, abs=1e-4)
    beyond = torch.linspace(4.0, 9.0, 50, dtype=torch.float64, requires_grad=True)
    value = envelope(beyond)
    (slope,) = torch.autograd.grad(value.sum(), beyond)
    assert value.abs().max() < 1e-15
    assert slope.abs().max() < 1e-15
    assert not value[1:].any()
    assert not slope[1:].any()
    inside = envelope(torch.linspace(0, 4, 100))
    assert bool((inside.diff() <= 1e-6).all())  # rounding about one


def test_polynomial_network_is_smooth_at_its_cutoff() -> None:
    """What is left just before the cutoff vanishes with two derivatives; the cosine's does not."""
    ends = {}
    for envelope in SHAPES:
        term = ShortRange(ELEMENTS, options={**SIZES, "envelope": envelope}, hidden=(16,))
        term.load_state_dict(short_range().state_dict())
        with torch.no_grad():
            term.energy[-1].weight *= 30.0
        ends[envelope] = HybridPotential({"net": term}, ELEMENTS).set_dtype(torch.float64)
    checks.check_smooth_at_cutoff(ends["polynomial"], "net", tolerance=1e-4)
    with pytest.raises(AssertionError, match="curvature"):
        checks.check_smooth_at_cutoff(ends["cosine"], "net", tolerance=1e-4)


def test_atoms_beyond_all_layers_do_not_matter() -> None:
    """A chain carries messages one cutoff per layer, and no farther."""
    net = network(layers=3)
    x = torch.zeros(6, 3, dtype=torch.float64)
    x[:, 0] = 3.0 * torch.arange(6)
    x.requires_grad_()
    i, j = edges(x.detach(), net.cutoff)
    out = net(torch.tensor([0, 1, 2, 0, 1, 2]), i, j, x[j] - x[i])
    (slope,) = torch.autograd.grad(out[0].sum(), x)
    reached = slope.abs().sum(1) > 0
    assert reached.tolist() == [True, True, True, True, False, False]


def test_reference_energies_and_heads_reach_the_energy() -> None:
    term = short_range()
    atoms = Atoms("Li")
    energy = HybridPotential({"s": term}).set_dtype(torch.float64)(AtomsBatch.from_atoms(atoms))
    x = term.net.embedding.weight[1]
    for layer in term.net.layers:  # one atom alone: no messages, biases only
        x = x + layer.out.bias.chunk(layer.n_out)[-1]
    expected = (term.energy(x)[0] + term.reference_energy[1]).item()
    assert energy.energy.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 10, "heads": 4},
        {"channels": 0},
        {"n_species": 0},
        {"layers": 1},
        {"cutoff": 0.0},
        {"cutoff": float("nan")},
        {"envelope": "sharp"},
    ],
)
def test_sizes_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        GET(**{"n_species": 2, **options})  # type: ignore[arg-type]


def test_options_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="colour"):
        ShortRange(("H",), "get", {"colour": 1})
    with pytest.raises(ConfigError, match="among"):
        ShortRange(("H",), "nothing")


def test_presets_are_sizes_by_name() -> None:
    for name, sizes in PRESETS.items():
        if name.startswith("e3-"):
            continue
        term = ShortRange(("H", "O"), options={"preset": name, "n_radial": 8})
        assert term.net.options == {**GET(2).options, **sizes, "n_radial": 8}
        again = ShortRange(**term.config())  # a checkpoint holds the sizes, not the name
        assert again.net.options == term.net.options
    assert ShortRange(("H",), options={"preset": "small", "channels": 32}).net.channels == 32
    with pytest.raises(ConfigError, match="preset among"):
        ShortRange(("H",), options={"preset": "tiny"})


def test_smooth_envelope_by_its_conditions() -> None:
    """Degree 11: value and seven derivatives given at 0, value and three at the cutoff."""
    rows, values = [], []
    for x, orders in ((0.0, 8), (1.0, 4)):
        for order in range(orders):
            rows.append(
                [math.perm(k, order) * x ** (k - order) if k >= order else 0.0 for k in range(12)]
            )
            values.append(1.0 if (x, order) == (0.0, 0) else 0.0)
    coefficients = np.linalg.solve(np.array(rows), np.array(values))
    x = torch.linspace(0.0, 1.0, 40, dtype=torch.float64)
    expected = np.polynomial.polynomial.polyval(x.numpy(), coefficients)
    np.testing.assert_allclose(Envelope(4.0, "smooth")(4.0 * x).numpy(), expected, atol=1e-11)


def ablated(**options: bool) -> GET:
    torch.manual_seed(0)
    return GET(3, 12, heads=3, layers=3, n_radial=6, cutoff=3.5, **options).double()


@pytest.mark.parametrize("options", [{}, {"attention": False}, {"vectors": False}])
def test_features_of_every_layer_pass_the_check_of_e3nn(options: dict[str, bool]) -> None:
    """Under O(3), to 1e-10: scalars 0e and vectors 1o as the network declares them."""
    net = ablated(**options)
    species, positions = scattered()
    i, j = edges(positions, net.cutoff)
    seen: list[tuple[Tensor, Tensor | None]] = []
    for layer in net.layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output))

    def hidden(vector: Tensor) -> Tensor:
        seen.clear()
        out = [net(species, i, j, vector)]
        for x, v in seen[:-1]:
            inner = [x] if v is None else [x, v.transpose(1, 2).flatten(1)]
            assert sum(part.shape[1] for part in inner) == o3.Irreps(net.irreps_hidden).dim
            out = [*inner, *out]
        return torch.cat(out, dim=1)

    irreps = [o3.Irreps(net.irreps_hidden)] * (len(net.layers) - 1) + [o3.Irreps("12x0e")]
    total = sum(irreps[1:], irreps[0])
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn's check makes its rotations in it
    try:
        vector = positions[j] - positions[i]
        assert_equivariant(hidden, [vector], [o3.Irreps("1o")], [total], tolerance=1e-10, ntrials=4)
    finally:
        torch.set_default_dtype(default)


def test_without_attention_or_vectors() -> None:
    """GE: messages know no pair of features. GIT: features know no angles."""
    species, positions = scattered(3)
    # atoms 1 and 2 at fixed distances from atom 0, their own distance beyond the cutoff
    positions = torch.tensor([[0.0, 0, 0], [2.0, 0, 0], [-2.0, 0, 0]], dtype=torch.float64)
    bent = positions.clone()
    bent[2] = 2.0 * torch.tensor([math.cos(2.2), math.sin(2.2), 0.0], dtype=torch.float64)
    assert float(torch.linalg.vector_norm(bent[1] - bent[2])) > 3.5
    scalar, full = ablated(vectors=False), ablated()
    torch.testing.assert_close(
        features(scalar, species, bent), features(scalar, species, positions), rtol=0, atol=1e-12
    )
    change = features(full, species, bent) - features(full, species, positions)
    assert float(change.detach().abs().max()) > 1e-4
    # a message of GE is linear in the sender's value: doubling it doubles the sum
    layer = ablated(attention=False).layers[0]
    x = torch.randn(3, 12, dtype=torch.float64)
    i, j = edges(positions, 3.5)
    edge = GETEdges(i, j, torch.rand(len(i), 12).double(), torch.rand(len(i)).double(),
                 torch.zeros(len(i), 3).double())  # fmt: skip
    once, _ = layer.messages(x, edge)
    with torch.no_grad():
        layer.qkv.weight *= 2.0
    twice, _ = layer.messages(x, edge)
    torch.testing.assert_close(twice, 2.0 * once)
    assert layer.qkv.weight.shape == (12, 12)
    for options in ({"attention": False}, {"vectors": False}):
        term = ShortRange(ELEMENTS, options={**SIZES, **options})
        checks.check_kernels(HybridPotential({"net": term}, ELEMENTS), [checks.ionic_box()])


def test_options_of_older_files_are_complete() -> None:
    """A file from before an option existed means its default: nothing is required."""
    older = {k: v for k, v in GET(2).options.items() if k not in ("attention", "vectors")}
    net = ShortRange(("H", "O"), options={**older, "envelope": "polynomial"}).net
    assert net.options["envelope"] == "polynomial"
    assert net.options["attention"]
    assert net.options["vectors"]
