"""Normal random numbers that are a function of seed, system, step and atom, and of nothing else.

A counter-based generator has no state: a resumed run needs only its step, and the noise of a system
is the same, bit for bit, alone or in any batch, in blocks of any length and on any device. For the
last, the bits become normal numbers by a table, additions and multiplications, which IEEE 754
rounds in one way everywhere; logarithms and cosines differ between libraries.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
WORD = 0xFFFFFFFF  # a 32-bit word; tensors hold them as int64

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Philox 4x32-10 (Salmon et al., SC 2011, section 3.3): four random words per counter.

    Args:
        counter, key: words (0 to 2^32 - 1) as int64 tensors that broadcast against each other.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return c0, c1, c2, c3


def _multiply(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    product = word * factor  # modulo 2^64: its 64 bits are right, whatever its sign
    return (product >> 32) & WORD, product & WORD


INTERVALS = 64  # of the table per factor of two in probability: error below 1e-8


@cache
def quantile_table(device: torch.device) -> Tensor:
    """Cubics for the normal quantile, float64 [32 * INTERVALS, 4], rising powers.

    Row e * INTERVALS + n is for the probabilities p 2^32 = m 2^e with 2 m - 1 between n and n + 1
    in units of 1/INTERVALS; values and slopes meet where rows meet.
    """
    exponent = np.arange(32)[:, None]
    edges = 0.5 + np.arange(INTERVALS + 1) / (2 * INTERVALS)
    edge = np.ldexp(np.broadcast_to(edges, (32, INTERVALS + 1)), exponent - 32)
    quantile = ndtri(edge)
    width = np.ldexp(np.full((32, 1), 0.5 / INTERVALS), exponent - 32)
    slope = width * np.sqrt(2 * np.pi) * np.exp(0.5 * quantile**2)  # 1/density
    f0, f1, s0, s1 = quantile[:, :-1], quantile[:, 1:], slope[:, :-1], slope[:, 1:]
    cubic = [f0, s0, 3 * (f1 - f0) - 2 * s0 - s1, 2 * (f0 - f1) + s0 + s1]
    return torch.as_tensor(np.stack(cubic, axis=-1).reshape(-1, 4), device=device)


def normal(words: Tensor) -> Tensor:
    """Standard normal numbers, float64, one per random word: the quantile of (word + 1/2)/2^32.

    The lowest bit is the sign, the other 31 the distance from the middle; the largest is 6.3.
    """
    tail = (words >> 1).double() + 0.5  # probability beyond, times 2^32
    mantissa, exponent = torch.frexp(tail)
    place = (mantissa - 0.5) * (2 * INTERVALS)
    interval = place.floor()
    t = place - interval
    c = quantile_table(words.device)[exponent * INTERVALS + interval.long()]
    size = ((c[..., 3] * t + c[..., 2]) * t + c[..., 1]) * t + c[..., 0]
    return torch.where((words & 1).bool(), size, -size)


class Noise:
    """The random numbers of Langevin dynamics.

    Args:
        seed: of all systems, below 2^32.
        batch: the systems.
        identity: int64 [n_systems], which stream each system draws from (below 2^32); None numbers
            them from 0. A system keeps its noise wherever it sits if it keeps its identity.

    Raises:
        ConfigError: a seed of more than 32 bits.
    """

    def __init__(self, seed: int, batch: AtomsBatch, identity: Tensor | None = None) -> None:
        if not 0 <= seed <= WORD:
            raise ConfigError(f"expected a seed from 0 to {WORD} for the torch engine, got {seed}")
        if identity is None:
            identity = torch.arange(batch.n_systems, device=batch.device)
        self._seed = torch.tensor(seed, device=batch.device)
        self._stream = identity.to(batch.device)[batch.system]
        self._atom = batch.index_in_system

    def steps(self, first: int, count: int, width: int = 3) -> Tensor:
        """Standard normal numbers of ``count`` steps from ``first`` on, [count, n_atoms, width].

        ``width`` is at most 4; the first three are the same whatever it is.
        """
        step = torch.arange(first, first + count, device=self._atom.device)[:, None]
        counter = (step & WORD, step >> 32, self._atom, torch.zeros_like(self._atom))
        words = philox(counter, (self._seed, self._stream))
        return normal(torch.stack(words[:width], dim=-1))
