"""SOAP against Adam, and the symmetry that makes it more than Adam."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hff_ase.training.loop.soap import Soap, eigenvectors, followed

BETAS = (0.9, 0.98)


def losses(
    optimizer: torch.optim.Optimizer,
    matrix: Tensor,
    vector: Tensor,
    n_steps: int,
    diagonal: bool = False,
) -> list[Tensor]:
    """Minimise a loss that mixes rows and columns, unless ``diagonal``; the matrix after steps."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, matrix.shape[1], generator=generator, dtype=matrix.dtype)
    y = torch.randn(40, matrix.shape[0], generator=generator, dtype=matrix.dtype)
    path = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        product = x * matrix.diagonal() if diagonal else x @ matrix.T
        ((torch.tanh(product) + vector - y) ** 2).sum().backward()
        optimizer.step()
        path.append(matrix.detach().clone())
    return path


def parameters(rows: int = 7, columns: int = 5) -> tuple[nn.Parameter, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    vector = torch.randn(rows, generator=generator, dtype=torch.float64)
    return nn.Parameter(matrix), nn.Parameter(vector)


def test_vectors_and_unturned_matrices_are_adams() -> None:
    """With a gradient on the diagonal alone, SOAP's axes are those of the matrix."""
    mine, theirs = parameters(5), parameters(5)
    options: dict[str, Any] = {"lr": 0.01, "betas": BETAS, "weight_decay": 0.1}
    path = losses(Soap(mine, interval=1000, **options), *mine, 20, diagonal=True)
    reference = losses(torch.optim.AdamW(theirs, **options), *theirs, 20, diagonal=True)
    assert torch.allclose(torch.stack(path), torch.stack(reference), rtol=0, atol=1e-13)
    assert torch.allclose(mine[1], theirs[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("interval", [1, 4])
def test_a_rotation_of_rows_and_columns_rotates_the_path(interval: int) -> None:
    """Adam depends on the axes; SOAP does not."""
    generator = torch.Generator().manual_seed(5)
    # square: the bases of a rectangle's null space are anyone's
    turns = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    left, right = torch.linalg.qr(turns).Q
    start, target, a, b = torch.randn(4, 4, 4, generator=generator, dtype=torch.float64)

    def run(turned: bool) -> Tensor:
        weight = nn.Parameter(left @ start @ right.T if turned else start.clone())
        optimizer = Soap([weight], lr=0.05, betas=BETAS, eps=1e-3, interval=interval)
        for _ in range(12):
            optimizer.zero_grad()
            plain = left.T @ weight @ right if turned else weight
            ((a @ (plain - target) @ b) ** 2).sum().backward()
            optimizer.step()
        return weight.detach()

    assert torch.allclose(run(True), left @ run(False) @ right.T, rtol=0, atol=1e-8)


def test_bases_find_the_eigenvectors() -> None:
    generator = torch.Generator().manual_seed(2)
    factors = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    matrix = factors @ factors.mT
    basis, order = followed(matrix, eigenvectors(torch.eye(8, dtype=torch.float64).expand(3, 8, 8)))
    for _ in range(400):
        basis, order = followed(matrix, basis)
    turned = basis.mT @ matrix @ basis
    expected = torch.linalg.eigvalsh(matrix).flip(-1)
    assert torch.allclose(turned, torch.diag_embed(expected), rtol=0, atol=1e-6)
    assert torch.equal(order, torch.arange(8).expand(3, 8))


def test_blocks_of_a_large_matrix_are_matrices_of_their_own() -> None:
    whole, _ = parameters(6, 4)
    parts = [nn.Parameter(part.detach().clone()) for part in whole.chunk(2)]
    cut, apart = Soap([whole], block=4), Soap(parts, block=4)
    for _ in range(15):
        for weight in (whole, *parts):
            weight.grad = torch.zeros_like(weight)
        whole.grad = torch.tanh(whole.detach()) * torch.arange(1, 5)
        for part in parts:
            part.grad = torch.tanh(part.detach()) * torch.arange(1, 5)
        cut.step()
        apart.step()
    assert torch.equal(whole, torch.cat([part.detach() for part in parts]))


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    straight, broken = parameters(), parameters()
    path = losses(Soap(straight, interval=3), *straight, 20)
    first = Soap(broken, interval=3)
    losses(first, *broken, 8)
    second = Soap(broken, lr=1.0, interval=3)
    second.load_state_dict(first.state_dict())
    assert torch.equal(losses(second, *broken, 12)[-1], path[-1])


def test_matrices_of_low_rank_do_no_harm() -> None:
    weight = nn.Parameter(torch.ones(16, 8))
    optimizer = Soap([weight], interval=1)
    for scale in (1e-12, 0.0, 1.0, 1e-20):
        weight.grad = scale * torch.ones(16, 8)
        optimizer.step()
    assert torch.isfinite(weight).all()
