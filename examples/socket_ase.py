"""The force field in its own process, asked over a socket in i-PI's protocol.

ASE's side of the socket stands here for any program that speaks the protocol as a server (i-PI
itself, for one), and `ase.calculators.socketio.SocketClient` is the side that computes. Use
``port=31415`` instead of ``unixsocket`` between two machines.
"""

from __future__ import annotations

import os
from functools import partial

from ase import Atoms
from ase.calculators.socketio import PySocketIOClient, SocketIOCalculator
from ase.optimize import LBFGS

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box


def relax(atoms: Atoms, steps: int) -> dict[str, object]:
    """Relax in place with forces from the other process; its last results, ASE units."""
    client = PySocketIOClient(partial(HybridFF.load, "electrolyte"))
    name = f"hff_{os.getpid()}"
    with SocketIOCalculator(launch_client=client, unixsocket=name, timeout=300) as calc:
        atoms.calc = calc
        LBFGS(atoms, logfile=None).run(fmax=0.5, steps=steps)
        names = ("energy", "forces", "stress")
        return {name: calc.get_property(name, atoms) for name in names}


if __name__ == "__main__":
    box = build_box("EC:DMC 1:1 v/v", 100, seed=1)
    remote = relax(box, steps=10)
    box.calc = HybridFF.load("electrolyte")
    print(f"over the socket {remote['energy']:.6f} eV")
    print(f"in this process {box.get_potential_energy():.6f} eV")
