"""The Triton mesh kernels against the reference: on a GPU where there is one, else interpreted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from triton_interpreter import DEVICE  # before anything that holds Triton kernels

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.mesh import gpu
from hff_ase.longrange import mesh_sum
from hff_ase.longrange.bspline import BOTH, VALUE, Grid, Stencil, interpolate_values, spread_values
from hff_ase.longrange.lattice import reciprocal_lattice
from hff_ase.longrange.mesh import group_systems, wave_metric


def relative(value: Tensor, reference: Tensor) -> float:
    """Largest deviation by the largest entry."""
    return float((value - reference).abs().max() / reference.abs().max())


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE)


@pytest.mark.parametrize("order", [4, 5, 6])
@pytest.mark.parametrize("systems", [[0] * 20 + [1] * 25, [0]])
def test_stencil_is_the_reference(order: int, systems: list[int]) -> None:
    n_atoms, n_systems = len(systems), systems[-1] + 1
    u = 40.0 * random(n_atoms, 3)
    u[: n_atoms // 5] = torch.round(u[: n_atoms // 5])
    grid = Grid(n_systems, (8, 12, 10), order, torch.tensor(systems, device=DEVICE))
    reference = Stencil(u, grid)
    stencil = gpu.TritonStencil(u, grid.system, n_systems, grid.shape, order)
    mesh = random(n_systems, *grid.shape)
    for terms in (VALUE, BOTH):
        values = random(n_atoms, len(terms))
        found = stencil.spread(values[:, 0] if terms == VALUE else values)
        assert relative(found, spread_values(values, reference, terms)) < 1e-12
        found = stencil.interpolate(mesh, slopes=terms == BOTH)
        assert relative(found, interpolate_values(mesh, reference, terms)) < 1e-12


def test_convolution_is_the_reference() -> None:
    shape = (8, 10, 12)
    cell = 10.0 * torch.eye(3, dtype=torch.float64, device=DEVICE) + random(2, 3, 3)
    system = torch.tensor([0, 0, 1], device=DEVICE)
    numbers, flags = torch.ones_like(system), torch.ones(2, dtype=torch.bool, device=DEVICE)
    batch = AtomsBatch(random(3, 3), numbers, system, cell, flags, cell[:, 0, 0])
    group = group_systems(batch, shape, [0, 1], 6)
    reciprocal, volume = reciprocal_lattice(cell)
    metric = wave_metric(reciprocal)
    spectrum = torch.fft.rfftn(random(2, *shape), dim=(1, 2, 3))
    one, other = spectrum.clone(), spectrum.clone()
    found = gpu.convolve(one, group.damping, metric, volume, shape[2], 0.4)
    influence = group.influence(cell, 0.4)
    expected = mesh_sum.convolve(other, influence, metric, group, 0.4)
    assert relative(torch.view_as_real(one), torch.view_as_real(other)) < 1e-12
    assert relative(found, expected) < 1e-12


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hff_ase.kernels.mesh import gpu

def ptx(kernel, pointers, sizes, **constants):
    names = kernel.arg_names
    kinds = [*pointers, *["i32"] * sizes, *["constexpr"] * len(constants)]
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, dict(zip(names, kinds, strict=True)), constexprs=values)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]

atoms = {"ORDER": 4, "SLOPES": True, "ATOMS": gpu.ATOMS, "LANES": gpu.LANES}
pointers = ["*fp64", "*fp64", "*i64", "*fp64"]
for kernel in (gpu._spread, gpu._interpolate):
    assert ".f32" not in ptx(kernel, pointers, 4, **atoms), "a number was rounded to float32"
ptx(gpu._convolve, ["*fp64"] * 6, 4, POINTS=gpu.POINTS)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Triton compiles on Linux")
def test_kernels_compile_for_a_gpu() -> None:
    """The interpreter accepts what the compiler does not, so compile; no GPU is needed for that."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
