"""Curves of the structure of a state point: scattering, angles, clusters, charges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.clusters import ions_by_cluster
from hff_ase.dynamics.observables.distributions import angle_density, charge_histograms
from hff_ase.dynamics.observables.kirkwood_buff import running_integral
from hff_ase.dynamics.observables.structure_factor import faber_ziman_with_error
from hff_ase.dynamics.properties.curves import Curve, Line, line
from hff_ase.dynamics.properties.shells import anions_of, cluster_runs
from hff_ase.dynamics.properties.structure import (
    RADIATIONS,
    centre_pairs,
    charges_by_state,
    element_pairs,
    shell_angles,
)
from hff_ase.dynamics.properties.window import Window
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
LARGEST_Q, STEP_Q = 16.0, 0.02  # 1/Angstrom
MOST_CLUSTERS = 10
WIDTH_OF_CHARGES = 0.005  # e
ANGLE_BINS = 60
RADIATION = {"xray": "x-rays", "neutron": "neutrons"}


def scattering_curves(window: Window) -> list[Curve]:
    """X-ray and neutron structure factors, from the smallest wave number that the box resolves."""
    pairs, numbers = element_pairs(window)
    q: Array = np.arange(2 * np.pi / pairs.edges[-1], LARGEST_Q, STEP_Q)
    lines = {
        RADIATION[kind]: line(q, *faber_ziman_with_error(pairs, numbers, q, kind))
        for kind in RADIATIONS
    }
    title = f"Structure factor (Faber and Ziman); g(r) to {pairs.edges[-1]:.1f} Å"
    return [Curve(title, "q / Å⁻¹", "S(q)", lines)]


def angle_curves(window: Window) -> list[Curve]:
    """Distributions of the angles in the first shells of the cations."""
    lines: dict[str, Line] = {}
    for name, runs, _ in shell_angles(window):
        try:
            x, y = angle_density([one for run in runs for one in run], ANGLE_BINS)
        except ConfigError:
            continue
        lines[name] = line(x, y)
    title = "Angles at the cations; one for neighbours at random"
    return [Curve(title, "angle / degrees", "P(angle) / sin(angle)", lines)] if lines else []


def cluster_curves(window: Window) -> list[Curve]:
    """Share of ions by the cluster that they are in."""
    found = []
    for kind, runs, _ in cluster_runs(window):
        anions = anions_of(window.topology)
        shares = ions_by_cluster(runs, (kind, anions[0] if len(anions) == 1 else "anions"))
        bars = dict(list(shares.items())[:MOST_CLUSTERS])
        found.append(Curve(f"Ions by the cluster of {kind}", "share of ions", "", bars=bars))
    return found


def kirkwood_buff_curves(window: Window) -> list[Curve]:
    """Kirkwood-Buff integrals against the radius of the sphere."""
    pairs, _ = centre_pairs(window)
    lines = {name: line(*running_integral(pairs, name)) for name in pairs.g}
    title = "Kirkwood-Buff integrals, corrected for the finite box, by radius of the sphere"
    return [Curve(title, "radius / Å", "G / Å³", lines)]


def charge_curves(window: Window) -> list[Curve]:
    """Distributions of charges: of the elements of each species, and by solvation state."""
    runs, labels, _ = charges_by_state(window)
    charges = np.concatenate([one for one, _ in runs])
    states = {
        label: (np.concatenate([own[label][0] for _, own in runs]), names)
        for label, (_, names) in runs[0][1].items()
    }
    low, high = charges.min(), charges.max()
    edges: Array = np.arange(low - WIDTH_OF_CHARGES, high + 2 * WIDTH_OF_CHARGES, WIDTH_OF_CHARGES)
    found = charge_histograms(charges, labels, edges, states)
    middle = 0.5 * (edges[1:] + edges[:-1])
    groups: dict[str, dict[str, Line]] = {"Charges by element": {}}
    for name, histogram in found.histogram.items():
        label, _, state = name.partition(" ")
        title = f"Charges of {label} by solvation" if state else "Charges by element"
        inside = np.flatnonzero(histogram)
        around = slice(max(int(inside[0]) - 1, 0), int(inside[-1]) + 2)  # of narrow peaks
        groups.setdefault(title, {})[state or label] = line(middle[around], histogram[around])
    return [Curve(title, "charge / e", "P(q) / e⁻¹", lines) for title, lines in groups.items()]
