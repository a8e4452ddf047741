"""The force field as a ``fix external`` of LAMMPS, on all of its processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hff_ase.calculators import HybridFF
from hff_ase.dynamics.lammps.box import (
    about_narrow_domains,
    check_box,
    check_copies,
    check_exchange,
    energy_unit,
    frame_of,
    numbers_of_types,
)
from hff_ase.dynamics.lammps.domain import Domain
from hff_ase.dynamics.lammps.long_range import LongRange, OwnMesh
from hff_ase.dynamics.lammps.pppm import PPPM
from hff_ase.dynamics.lammps.settings import DEFAULTS
from hff_ase.dynamics.lammps.stopping import stop
from hff_ase.errors import ConfigError, StructureError
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb

VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # LAMMPS' order: xx yy zz xy xz yz
MOST_CHARGE = 0.01  # e, by which charges that are there may differ from the total charge


def attach(
    lmp: Any,
    model: str | Path | HybridFF = DEFAULTS["model"],
    types: Sequence[str] | None = None,
    *,
    charge: float = DEFAULTS["charge"],
    dtype: str = DEFAULTS["dtype"],
    device: str = DEFAULTS["device"],
    skin: float = DEFAULTS["skin"],
    long_range: str = DEFAULTS["long_range"],
    pppm_accuracy: float = DEFAULTS["pppm_accuracy"],
    fix: str = "hff",
) -> Attached:
    """Give a LAMMPS its forces from a model, on every MPI process that it runs on.

    Called by all processes once the box and its atoms are there, before the first ``run``. It sets
    what the exchange of atoms needs (``neighbor``, ``neigh_modify``, ``comm_modify``) and makes a
    fix for all atoms: energy, forces, virial. Charges are written to the atoms where their style
    has some. Whatever goes wrong later ends all processes with one message.

    Args:
        lmp: a `lammps.lammps` (units metal or real), made after mpi4py was imported.
        model: a model's name, an .hff file or a calculator.
        types: element of each atom type; None reads it off the masses.
        charge: of the whole box, e.
        dtype: precision of the networks, "float32" or "float64".
        device: "cpu" or "cuda": each process of a machine takes the card of its number there.
        skin: LAMMPS' skin, Angstrom.
        long_range: "mesh", the model's own, or "pppm", LAMMPS', for many processes.
        pppm_accuracy: of the latter, relative as in LAMMPS' ``kspace_style``.
        fix: ID of the fix.

    Raises:
        ConfigError: units, a box, types or charges that cannot be, or a model with a term that
            cannot be divided among processes.
        StructureError: an element that the model does not know.
    """
    world = lmp.get_mpi_comm()
    if world is None:
        raise ConfigError("expected mpi4py for LAMMPS, got none: pip install 'hff-ase[lammps]'")
    unit = energy_unit(lmp)
    check_box(lmp, world.size)
    if not 0.0 < skin < float("inf"):
        raise ConfigError(f"expected a skin above 0 Angstrom, got {skin}")
    world = world.Dup()  # nobody else's messages
    local = _share_machine(world)
    if not isinstance(model, HybridFF):
        model = HybridFF.load(model, dtype=dtype, device=card_of(device, local))
    potential = model.potential.requires_grad_(False)
    known = potential.elements or ()
    numbers = numbers_of_types(lmp, types, known)
    _check_charges(lmp, world, charge)
    far = long_range_of(potential, world, long_range, pppm_accuracy, skin)
    domain = Domain(potential, numbers.tolist(), world, skin, charge, far)
    domain.refuse_indivisible()
    for command in (
        f"neighbor {skin} bin",
        "neigh_modify delay 0 every 1 check yes",
        f"comm_modify cutoff {domain.reach + 0.01:.12g}",
        f"fix {fix} all external pf/callback 1 1",
        f"fix_modify {fix} energy yes virial yes",
    ):
        lmp.command(command)
    warning = about_narrow_domains(lmp, world, domain.reach)
    if warning:
        lmp.command(f'print "{warning}"')
    attached = Attached(lmp, fix, domain, unit)
    lmp.set_fix_external_callback(fix, attached.callback, None)
    return attached


class Attached:
    """A force field that LAMMPS evaluates at every step.

    Attributes:
        domain: this process's part of the box.
        energy: eV, of the whole box at the last step.
        charges: e, of own atoms at the last step; None where the model has none.
    """

    def __init__(self, lmp: Any, fix: str, domain: Domain, unit: float) -> None:
        self.lmp, self.fix, self.domain, self.unit = lmp, fix, domain, unit
        self.energy = float("nan")
        self.charges: np.ndarray | None = None
        self._keeps_charges = bool(lmp.extract_setting("q_flag"))

    def close(self) -> None:
        """End what was started beside the LAMMPS (`long_range="pppm"`); called by all processes."""
        if self.domain.long_range is not None:
            self.domain.long_range.close()

    def callback(self, _: Any, step: int, n: int, tag: Any, x: Any, forces: np.ndarray) -> None:
        """The callback of LAMMPS, which ignores exceptions: none leaves it."""
        try:
            self._answer(forces)
        except BaseException as error:
            stop(error, self.domain.world)

    def _answer(self, forces: np.ndarray) -> None:
        domain, world = self.domain, self.domain.world
        frame = frame_of(self.lmp)
        age = self.lmp.extract_setting("neigh_ago")  # steps since atoms were exchanged
        if age == 0 or world.allreduce(int(domain.outdated(frame))):
            check_exchange(self.lmp, frame.tag[: frame.n_own])
            if age == 0:
                check_copies(self.lmp, world, frame, domain.reach)
            elif age > 0:
                domain.refuse_strayed(frame)
            domain.build(frame)
        result = domain.evaluate(frame)
        assert result.forces is not None
        assert result.stress is not None
        own = domain.halo.reverse(result.forces.contiguous())
        forces[: frame.n_own] = self.unit * own.cpu().numpy()
        virial = -result.stress[0].cpu().numpy() * np.linalg.det(frame.cell)
        sums = np.array([float(result.energy), *(virial[place] for place in VOIGT)])
        sums = domain.halo.allreduce(torch.from_numpy(sums)).numpy()
        self.energy = float(sums[0])
        self.lmp.fix_external_set_energy_global(self.fix, self.unit * self.energy)
        self.lmp.fix_external_set_virial_global(self.fix, list(self.unit * sums[1:]))
        charges = result.fields.get("charges")
        self.charges = None if charges is None else charges[: frame.n_own].cpu().numpy()
        if self._keeps_charges and self.charges is not None and frame.n_own:
            self.lmp.numpy.extract_atom("q", nelem=frame.n_own)[: frame.n_own] = self.charges


def long_range_of(
    potential: HybridPotential, world: Any, name: str, accuracy: float, skin: float
) -> LongRange | None:
    """What sums the smooth part of 1/r of a potential; None where it has no Coulomb term.

    Raises:
        ConfigError: an unknown name, an accuracy that cannot be, or pppm without a Coulomb term.
    """
    if name not in ("mesh", "pppm"):
        raise ConfigError(f"expected the long range 'mesh' or 'pppm', got {name!r}")
    if not 0.0 < accuracy < 1.0:
        raise ConfigError(f"expected a pppm accuracy between 0 and 1, got {accuracy}")
    coulomb = [term for _, term in potential.named_terms() if isinstance(term, Coulomb)]
    if name == "pppm":
        if not coulomb:
            raise ConfigError("expected a model with a Coulomb term for pppm, got none")
        return PPPM(coulomb[0], world, accuracy, skin)
    return OwnMesh(coulomb[0]) if coulomb else None


def card_of(device: str, local: int) -> str:
    """The device of a process: of several cards the one of its number on its machine."""
    if device != "cuda" or torch.cuda.device_count() < 2:
        return device
    return f"cuda:{local % torch.cuda.device_count()}"


def _share_machine(world: Any) -> int:
    """Divide the cores of a machine among its processes, unless somebody has; which of them this
    one is."""
    from mpi4py import MPI

    here = world.Split_type(MPI.COMM_TYPE_SHARED)
    local, n_here = here.rank, here.size
    here.Free()
    if n_here > 1 and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(max(1, (cores or 1) // n_here))
    return int(local)


def _check_charges(lmp: Any, world: Any, charge: float) -> None:
    """Refuse a total charge that is not that of the charges that are there (all zero: none are).

    Raises:
        StructureError: both.
    """
    n = lmp.extract_setting("nlocal")
    there = np.zeros(0)
    if lmp.extract_setting("q_flag") and n:
        there = np.asarray(lmp.numpy.extract_atom("q", nelem=n))[:n]
    total, largest = world.allreduce(float(there.sum())), world.allreduce(float(abs(there).sum()))
    if largest > 0.0 and abs(total - charge) > MOST_CHARGE:
        raise StructureError(
            f"expected atoms whose charges sum to the total charge {charge:g}, got {total:.4g}"
        )
