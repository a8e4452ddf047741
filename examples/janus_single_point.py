"""janus-core with the force field as the structure's own calculator.

janus-core has no architecture of this name and needs none: a structure that comes with
``atoms.calc`` is computed with that, here and in its other tasks (geometry optimisation, MD ...).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ase import Atoms

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box


def single_point(atoms: Atoms) -> dict[str, Any]:
    """Energy (eV), forces (eV/Angstrom) and stress (eV/Angstrom^3) from janus-core's task."""
    from janus_core.calculations.single_point import SinglePoint

    atoms.calc = HybridFF.load("electrolyte")
    task = SinglePoint(struct=atoms, properties=["energy", "forces", "stress"])
    return dict(task.run())


if __name__ == "__main__":
    if find_spec("janus_core") is None:
        print("this example needs janus-core: pip install janus-core")
    else:
        results = single_point(build_box("EC:DMC 1:1 v/v", 100, seed=1))
        print(f"energy {results['energy']:.4f} eV")
        print(f"largest force {abs(results['forces']).max():.3f} eV/A")
