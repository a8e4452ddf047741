"""The driver that i-PI loads by path (`hff ipi-path` prints it): all beads in one forward pass.

    i-pi-py_driver -m custom -P $(hff ipi-path) -o model=electrolyte,template=box.extxyz -u -a hff

or, inside i-PI's own process, ``<ffdirect> <pes>custom</pes> <pes_path>...</pes_path>`` with the
same options in ``<parameters>``. i-PI's ``<batch_size>`` says how many beads come in one call. At
this edge everything is in atomic units, with i-PI's own factors and cells as columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user

from hff_ase.allocator import keep_memory
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.pimd.beads import Array, BeadForces, BeadResults
from hff_ase.errors import ConfigError, StructureError, in_one_line

__DRIVER_NAME__ = "hff"
__DRIVER_CLASS__ = "HFFDriver"

EXTRAS = ("charges", "dipole")
Answer = tuple[float, Array, Array, str]  # energy, forces [n_atoms, 3], virial [3, 3], JSON


class HFFDriver(Dummy_driver):
    """A hybrid force field, or a committee of several, as an i-PI driver.

    With several models the answer is their mean, and the extras hold every member's
    ``committee_pot``, ``committee_force`` and ``committee_virial`` in atomic units, as i-PI's own
    committee tools expect them (``ffcommittee`` with ``parse_json``).

    Args:
        template: a structure in the order of i-PI's atoms (anything ASE reads): its elements,
            whether it is periodic, and ``charge`` of its info.
        model: name of a shipped model or an .hff file.
        committee: further models, separated by colons.
        minus: a cheaper model whose energy, forces and virial are taken from those of the others:
            the correction for ring-polymer contraction and multiple time steps.
        device, dtype: "cpu" or "cuda"; "float32" or "float64" for the networks.
        skin: how far atoms may move before neighbours are searched again, Angstrom.
        extras: "charges" (e) and "dipole" (atomic units, of the positions as they come), separated
            by colons; a dipole that is continuous in time needs ``pbc="False"`` in the force field.
        beads: refuse batches of another size; 0 takes any.

    Raises:
        ConfigError: an unknown option, or a required one that is missing.
        CheckpointError, StructureError: a model or template that cannot be used.

    Warns:
        OutsideDomainWarning: the template holds molecules that a model was not trained on.
    """

    def __init__(
        self,
        template: str = "",
        model: str = "",
        committee: str = "",
        minus: str = "",
        device: str = "cpu",
        dtype: str = "float32",
        skin: float = 1.0,
        extras: str = "",
        beads: int = 0,
        verbose: bool = False,
        **others: Any,
    ) -> None:
        keep_memory()  # the process is i-PI's, which knows nothing of it
        others.pop("verbosity", None)  # i-PI's own
        if others:
            raise ConfigError(f"expected no option {sorted(others)[0]!r} of the hff driver")
        if not template:
            raise ConfigError("expected the option template=FILE (elements, charge), got none")
        self.template, self.beads = _template(template), int(beads)
        self.extras = tuple(str(extras).split(":")) if extras else ()
        for name in self.extras:
            if name not in EXTRAS:
                raise ConfigError(f"expected extras among {':'.join(EXTRAS)}, got {name!r}")
        names = [str(name) for name in (model, *str(committee).split(":")) if name]
        members = self.load_members(names, device=device, dtype=dtype)
        taken = self.load_members([str(minus)], device=device, dtype=dtype) if minus else []
        self.forces = BeadForces([*members, *taken], self.template, float(skin))
        for member in members:
            member.domain_watch.look([self.template])
        self._minus = bool(taken)
        given = [any("charges" in t.gives for _, t in m.potential.named_terms()) for m in members]
        if self.extras and not all(given):
            raise ConfigError(f"expected models with charges for {extras}, got one without")
        super().__init__(verbose)

    def load_members(self, names: Sequence[str], **options: Any) -> list[HybridFF]:
        """The models; another driver may build its own here.

        Raises:
            ConfigError: none is named.
        """
        if not names:
            raise ConfigError("expected the option model=NAME or FILE.hff, got none")
        return [HybridFF.load(name, **options) for name in names]

    def compute(self, cell: Any, pos: Any) -> Any:
        """What i-PI calls: arrays for one structure, or lists of them for a batch.

        Args:
            cell: [3, 3], lattice vectors as columns, bohr; or a list of them.
            pos: [n_atoms, 3], bohr; or a list of them.

        Returns:
            Energy (hartree), forces [n_atoms, 3], virial [3, 3] and extras (JSON); or a list.

        Raises:
            StructureError: a batch of another size than was announced, or what `BeadForces` says.
        """
        if not isinstance(pos, (list, tuple)):
            return self._answers([cell], [pos])[0]
        if not isinstance(cell, (list, tuple)) or len(cell) != len(pos):
            raise StructureError(f"expected as many cells as positions ({len(pos)}), got others")
        return self._answers(cell, pos)

    def _answers(self, cells: Sequence[Array], positions: Sequence[Array]) -> list[Answer]:
        if self.beads and len(positions) != self.beads:
            raise StructureError(
                f"expected batches of {self.beads} structures (beads={self.beads}), got "
                f"{len(positions)}: set i-PI's <batch_size> to {self.beads}"
            )
        columns = unit_to_user("length", "angstrom", np.stack(cells))
        places = unit_to_user("length", "angstrom", np.stack(positions))
        if places.ndim == 2:
            places = places.reshape(len(places), -1, 3)
        found = self.forces.evaluate(columns.transpose(0, 2, 1), places)
        converted = [_in_atomic_units(member) for member in found]
        if self._minus:
            *full, cheap = converted
            converted = [_difference(member, cheap) for member in full]
        energy = np.mean([member.energy for member in converted], axis=0)
        forces = np.mean([member.forces for member in converted], axis=0)
        virial = np.mean([member.virial for member in converted], axis=0)
        return [
            (float(energy[k]), forces[k], virial[k], self._json(k, converted, positions[k]))
            for k in range(len(positions))
        ]

    def _json(self, bead: int, members: Sequence[BeadResults], positions: Array) -> str:
        extras: dict[str, Any] = {}
        if len(members) > 1:
            extras["committee_pot"] = [float(m.energy[bead]) for m in members]
            extras["committee_force"] = [m.forces[bead].ravel().tolist() for m in members]
            extras["committee_virial"] = [m.virial[bead].tolist() for m in members]
        if self.extras:
            charges = np.mean([m.charges[bead] for m in members if m.charges is not None], axis=0)
            if "charges" in self.extras:
                extras["charges"] = charges.tolist()
            if "dipole" in self.extras:
                extras["dipole"] = (charges @ np.asarray(positions).reshape(-1, 3)).tolist()
        return json.dumps(extras) if extras else ""


def _in_atomic_units(results: BeadResults) -> BeadResults:
    return BeadResults(
        energy=unit_to_internal("energy", "electronvolt", results.energy),
        forces=unit_to_internal("force", "ev/ang", results.forces),
        virial=unit_to_internal("energy", "electronvolt", results.virial),
        charges=results.charges,
    )


def _difference(full: BeadResults, cheap: BeadResults) -> BeadResults:
    """What a cheap model lacks; the charges are those of the full one."""
    return BeadResults(
        energy=full.energy - cheap.energy,
        forces=full.forces - cheap.forces,
        virial=full.virial - cheap.virial,
        charges=full.charges,
    )


def _template(path: str) -> Atoms:
    if not Path(path).is_file():
        raise ConfigError(f"expected a file with the template, got none at {path}")
    try:
        atoms = read(path)
    except Exception as error:  # ASE's readers raise whatever their format makes them
        reason = in_one_line(error)
        raise ConfigError(f"expected a template that ASE reads, got {path}: {reason}") from error
    if not isinstance(atoms, Atoms):
        raise ConfigError(f"expected one structure as template, got several in {path}")
    return atoms
