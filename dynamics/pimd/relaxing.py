"""Relaxing the start of a path-integral run: a packed box is under tens of thousands of bar."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.start.minimize import minimize


def relax(atoms: Atoms, config: PIMDConfig) -> dict[str, Any]:
    """Relax the positions with the force field of the run, as ``hff md`` does before a run.

    Args:
        atoms: changed in place.
        config: of the run; the mean of a committee moves the atoms, as it will move the beads.

    Returns:
        What `hff_ase.dynamics.start.minimize.minimize` says of it.

    Raises:
        SimulationError: an energy or force is not finite; names the atom.
    """
    from hff_ase.calculators.committee import Committee
    from hff_ase.calculators.hybrid import HybridFF

    options = {"device": config.device, "dtype": config.dtype}
    if config.committee:
        atoms.calc = Committee.load([config.model, *config.committee], **options)
    else:
        atoms.calc = HybridFF.load(config.model, **options)  # type: ignore[arg-type]
    settings = MDConfig(time="1ps", minimize_steps=config.minimize_steps)
    done = minimize(atoms, settings, lambda step, energy, force: None)
    atoms.calc = None
    return dict(done)
