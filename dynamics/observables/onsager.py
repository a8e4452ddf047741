r"""Onsager coefficients of ions and solvents from their collective displacements.

.. math:: L_{ij} = \frac{1}{6 V k_B T} \frac{d}{dt} \langle \Delta R_i \cdot \Delta R_j \rangle,
    \qquad \sigma = e^2 \sum_{ij} z_i z_j L_{ij}

with R_i the sum of the positions of the molecules of a species in the frame of the centre of mass
(Fong et al., AIChE J. 66, e17091 (2020), eq. 11-13). The slope at long times is the spectrum of the
increments of R at low frequency. One trajectory is one sample of a collective motion: the lowest K
frequencies, three directions and all replicas are that many independent complex Gaussian vectors,
so the matrix of the spectrum is Wishart distributed. That gives errors of everything derived from
it (transference numbers, Stefan-Maxwell diffusivities) by drawing from the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.stats import wishart

from hff_ase.dynamics.observables.observable import Observable, one_sigma, refuse
from hff_ase.dynamics.observables.spectrum import zero_frequency
from hff_ase.dynamics.observables.trajectory import Trajectory, check_transport
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
LEAST_FREEDOM = 20.0  # independent numbers: an error of 30 %
N_DRAWS = 2000
BEND = 0.5  # standard errors of the plateau by which it may differ from a fit that bends


@dataclass(frozen=True, eq=False)
class Onsager:
    """Onsager coefficients and how well they are known.

    Attributes:
        kinds: species, in order.
        charges: [n_kinds], formal, e.
        numbers: [n_kinds], molecules of each.
        masses: [n_kinds], amu.
        matrix: [n_kinds, n_kinds], L V kT = 1/6 d/dt <dR_i dR_j>, Angstrom^2/ps.
        dof: real degrees of freedom of the Wishart distribution of ``matrix``.
        volume: Angstrom^3.
        temperature: K.
        length: of the runs together, ps.
        cutoff: highest frequency used, 1/ps.
        reason: why there is no error; empty where there is.
        needs: how many times longer a run has to be for one.
    """

    kinds: tuple[str, ...]
    charges: Array
    numbers: Array
    masses: Array
    matrix: Array
    dof: float
    volume: float
    temperature: float
    length: float
    cutoff: float
    reason: str = ""
    needs: float = math.nan

    def derived(
        self, function: Callable[[Array], float], unit: str, method: str, seed: int = 0
    ) -> Observable:
        """Any number that follows from the matrix, its error by drawing matrices.

        Args:
            function: of a matrix [n_kinds, n_kinds], Angstrom^2/ps.
            unit, method: of the result.
            seed: of the draws.
        """
        value = float(function(self.matrix))
        if self.reason:
            return refuse(
                unit, method, self.reason, value=value, length=self.length, needs=self.needs
            )
        drawn = self.draws(seed)
        results = np.array([function(one) for one in drawn])
        low, high = np.nanquantile(results, [0.15865, 0.84135])
        # quantiles: a quotient has no variance
        error = 0.5 * float(high - low) * one_sigma(self.dof)
        return Observable(value, error, unit, method, 0.5 * self.dof, self.dof, length=self.length)

    def draws(self, seed: int = 0) -> Array:
        """Matrices [n_draws, n_kinds, n_kinds] as other runs of the same length might give them."""
        values, vectors = np.linalg.eigh(self.matrix)
        kept = values > 1e-10 * values.max()  # momentum makes the matrix singular
        root = vectors[:, kept] * np.sqrt(values[kept])
        n = max(self.dof, float(kept.sum()))
        rng = np.random.default_rng(seed)
        unit = wishart.rvs(n, np.eye(int(kept.sum())) / n, size=N_DRAWS, random_state=rng)
        unit = np.asarray(unit).reshape(N_DRAWS, int(kept.sum()), int(kept.sum()))
        drawn: Array = root @ unit @ root.T
        return drawn


def onsager_matrix(
    runs: Trajectory | Sequence[Trajectory], temperature: float, frame: str = "mass"
) -> Onsager:
    """Onsager coefficients of all species.

    Args:
        runs: centres of molecules (`centres`) of one run or of each replica.
        temperature: K.
        frame: ``mass`` (relative to the centre of mass) or ``laboratory`` (as the positions are).

    Raises:
        ConfigError: no formal charges, another frame, or a run that transport cannot use.
    """
    replicas = [runs] if isinstance(runs, Trajectory) else list(runs)
    topology = replicas[0].topology
    charges = topology.kind_charges()
    if frame not in ("mass", "laboratory"):
        raise ConfigError(f"expected frame mass or laboratory, got {frame!r}")
    interval = check_transport(replicas[0])
    for run in replicas[1:]:
        if abs(check_transport(run) - interval) > 1e-6 * interval:
            raise ConfigError("expected replicas with equal times between frames")
    shortest = min(map(len, replicas))
    paths = [collective(run, frame)[:shortest] for run in replicas]
    spectra = np.stack([_spectra(path, interval) for path in paths])
    matrices = spectra.mean(axis=0)  # [n_frequencies, n_kinds, n_kinds], over replicas
    per_point = 6 * len(replicas)
    n_points = _flat_part(matrices, per_point)
    n_points = _without_bend(matrices, n_points, per_point, 1.0 / (interval * shortest))
    matrix = matrices[:n_points].mean(axis=0)
    dof = float(per_point * n_points)
    members = [topology.of_kind(kind) for kind in topology.kinds]
    reason, needs = "", math.nan
    if dof < LEAST_FREEDOM:
        needs = LEAST_FREEDOM / dof
        reason = f"{dof:.0f} independent samples of collective motion, {LEAST_FREEDOM:g} are needed"
    return Onsager(
        topology.kinds,
        np.array([charges[kind] for kind in topology.kinds]),
        np.array([float(len(m)) for m in members]),
        np.array([float(topology.masses[m].mean()) for m in members]),
        matrix,
        dof,
        float(replicas[0].volumes[0]),
        temperature,
        interval * shortest * len(replicas),
        n_points / (shortest * interval),
        reason,
        needs,
    )


def collective(run: Trajectory, frame: str = "mass") -> Array:
    """Sums of the positions of each species [n_frames, n_kinds, 3], Angstrom."""
    topology = run.topology
    summed = np.stack(
        [run.positions[:, topology.of_kind(kind)].sum(axis=1) for kind in topology.kinds], axis=1
    )
    if frame == "laboratory":
        return summed
    numbers = np.array([len(topology.of_kind(kind)) for kind in topology.kinds], dtype=float)
    centre = np.einsum("fnx,n->fx", run.positions, topology.masses) / topology.masses.sum()
    return summed - numbers[:, None] * centre[:, None]


def _spectra(path: Array, interval: float) -> Array:
    """Half the cross-spectrum of increments at each frequency above zero, over directions.

    Returns:
        [n_frequencies, n_kinds, n_kinds], Angstrom^2/ps: at low frequency 1/6 d/dt <dR dR>.
    """
    steps = np.diff(path, axis=0)
    n = len(steps)
    # the mean displacement is a sample as well, but its phase is that of a drift: left out
    transformed = rfft(steps - steps.mean(axis=0), axis=0)[1 : (n - 1) // 2 + 1]
    product = np.einsum("fix,fjx->fij", transformed, transformed.conj()).real / 3.0
    return 0.5 * product / (n * interval)


def _flat_part(matrices: Array, per_point: int) -> int:
    """How many of the lowest frequencies are one plateau.

    Upper and lower half of a plateau agree, species by species. The search ends where they
    clearly do not (three errors); the longest part whose halves agree within one error is cut to
    half its length, since a spectrum bends with the square of the frequency.
    """
    n_points = len(matrices)
    diagonal = np.einsum("fii->fi", matrices)
    whole = diagonal.mean(axis=0)
    relative = diagonal[:, whole > 1e-12 * whole.max()] / whole[whole > 1e-12 * whole.max()]
    best = min(8, n_points)
    for count in np.unique(np.geomspace(min(8, n_points), n_points, 60).astype(int)):
        half = count // 2
        low, high = relative[:half].mean(axis=0), relative[half:count].mean(axis=0)
        error = math.sqrt(2.0 / (per_point * half) + 2.0 / (per_point * (count - half)))
        apart = float(np.abs(np.log(high / low)).max()) / error
        if apart > 3.0:
            break
        if apart < 1.0:
            best = int(count)
    return max(best // 2, min(2, n_points))


def _without_bend(matrices: Array, n_points: int, per_point: int, step: float) -> int:
    """The plateau, cut down until a fit that may bend has the same limit at frequency zero.

    They agree where the difference is below half the plateau's own standard error.
    """
    diagonal = np.einsum("fii->fi", matrices)
    frequencies: Array = step * np.arange(1.0, len(diagonal) + 1.0)
    for series in diagonal.T[diagonal.mean(axis=0) > 1e-12 * diagonal.mean()]:
        limit = zero_frequency(frequencies, series, per_point / 2, known_mean=False).value
        while n_points > 2:
            error = math.sqrt(2.0 / (per_point * n_points))
            if abs(math.log(series[:n_points].mean() / limit)) < BEND * error:
                break
            n_points = max(int(0.8 * n_points), 2)
    return n_points
