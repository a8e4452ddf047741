"""Committee: several models evaluated together, and how far they agree (see `spread`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.arguments import refuse_settings
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.calculators.results import split_results
from hff_ase.calculators.spread import AVERAGED, Results, Spread, mean_of, spread_of
from hff_ase.errors import ConfigError, StructureError
from hff_ase.shared_evaluators import SharedEvaluators
from hff_ase.structures import total_charge

__all__ = ["Committee"]

NEAR = 1e-3  # Angstrom: a skin for one structure, so that members can share its search
DRIVES = ("mean", "first")


class Committee(Calculator):
    """An ASE calculator of several, with the spread of their energies and forces.

    Results are the means over the members, or those of the first; `spread` holds the standard
    deviations at the same atoms (an attribute: ASE's own classes refuse results that they do not
    know). Members that are HybridFF on one device share one neighbour list.

    Args:
        members: two or more ASE calculators.
        drive: "mean" gives the members' mean, "first" the first member's results.
        skin: how far atoms may move, together, before the shared list is searched again, Angstrom;
            None takes the first member's.

    Attributes:
        members: the calculators.
        spread: at the last calculation; None before.
        energy_terms: eV per term at the last calculation, where all members have the same terms.

    Raises:
        ConfigError: fewer than two members, one that is not a calculator or has no forces, or
            another drive.
    """

    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self, members: Sequence[Any], *, drive: str = "mean", skin: float | None = None
    ) -> None:
        super().__init__()
        self.members = tuple(members)
        if len(self.members) < 2:
            raise ConfigError(f"expected at least two members, got {len(self.members)}")
        for member in self.members:
            if "forces" not in getattr(member, "implemented_properties", ()):
                raise ConfigError(
                    f"expected ASE calculators with forces, got {type(member).__name__}"
                )
        if drive not in DRIVES:
            raise ConfigError(f"expected drive 'mean' or 'first', got {drive!r}")
        self.drive = drive
        self.spread: Spread | None = None
        self.energy_terms: dict[str, float] = {}
        given = [set(member.implemented_properties) for member in self.members]
        wanted = set.intersection(*given) if drive == "mean" else given[0]
        self.implemented_properties = [name for name in AVERAGED if name in wanted]
        self.skin = skin
        self._shared = self._new_list()

    @classmethod
    def load(
        cls,
        paths: Sequence[Any],
        *,
        drive: str = "mean",
        device: str = "cpu",
        dtype: str = "float32",
    ) -> Committee:
        """Shipped models by name, or .hff files by path.

        Args:
            paths: of the members, as `HybridFF.load` takes them.
            drive: as the constructor.
            device, dtype: of every member, as `HybridFF`.

        Raises:
            CheckpointError, ConfigError: as `HybridFF.load` and the constructor.
        """
        members = [HybridFF.load(path, device=device, dtype=dtype) for path in paths]
        return cls(members, drive=drive)

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Nothing can be changed afterwards, as in `HybridFF.set`.

        Raises:
            ConfigError: any argument.
        """
        refuse_settings(kwargs)
        changed: dict[str, Any] = super().set()
        return changed

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Iterable[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate every member (called by ASE).

        Raises:
            StructureError: the structure cannot be evaluated, with the reason.
        """
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise StructureError("expected a structure to evaluate, got none")
        self.spread = None
        try:
            if self._shared is None:
                found = [results_of(member, self.atoms) for member in self.members]
            else:
                found = self._together(self._shared, [self.atoms])[0]
        except BaseException:
            # Half of a neighbour list, or of the results, must not serve the next structure.
            self.reset()
            if self._shared is not None:
                self._shared.forget()
            raise
        self.spread = spread_of(found)
        results = mean_of(found) if self.drive == "mean" else dict(found[0])
        self.energy_terms = results.pop("energy_terms", {})
        self.results = results

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, the total charge included."""
        changes = list(super().check_state(atoms, tol=tol))
        if self.atoms is not None and total_charge(self.atoms) != total_charge(atoms):
            changes.append("charge")
        return changes

    def evaluate_members(self, structures: Sequence[Atoms], skip: int = 0) -> list[list[Results]]:
        """Results [structure][member] of all members but the first ``skip``, in batched passes over
        ``structures``.

        What members of this package computed before has no influence, to the last bit; other
        calculators are asked as they are, with what lists they keep.

        Raises:
            StructureError: a structure cannot be evaluated.
        """
        members = self.members[skip:]
        if not members:
            return [[] for _ in structures]
        if can_share(members):
            fresh = SharedEvaluators([m.potential for m in members], NEAR, trajectory=False)
            return self._together(fresh, structures)
        of_members = [evaluate_each(member, structures) for member in members]
        return [list(found) for found in zip(*of_members, strict=True)]

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[Results], list[Spread]]:
        """Results (as `drive` says) and spreads of many structures, in batched passes.

        Raises:
            StructureError: a structure cannot be evaluated.
        """
        found = self.evaluate_members(structures)
        results = [mean_of(f) if self.drive == "mean" else dict(f[0]) for f in found]
        return results, [spread_of(f) for f in found]

    def get_state(self) -> dict[str, np.ndarray]:
        """What a restart needs to continue bit for bit: where neighbour lists were built."""
        if self._shared is not None:
            return self._shared.get_state()
        state: dict[str, np.ndarray] = {}
        for index, member in enumerate(self.members):
            if hasattr(member, "get_state"):
                state |= {f"member{index}_{k}": v for k, v in member.get_state().items()}
        return state

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Rebuild neighbour lists where `get_state` found them.

        Raises:
            ConfigError: not what `get_state` gave.
        """
        self.reset()
        if self._shared is not None:
            self._shared.set_state(state)
            return
        for index, member in enumerate(self.members):
            prefix = f"member{index}_"
            mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if hasattr(member, "set_state"):
                member.set_state(mine)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: a neighbour list belongs to the terms that it was made for."""
        state = self.__dict__.copy()
        shared = state.pop("_shared")
        state["_neighbors_built_at"] = {} if shared is None else shared.get_state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy continues with its own neighbour list, bit for bit as the original."""
        built_at = state["_neighbors_built_at"]
        self.__dict__.update({k: v for k, v in state.items() if k != "_neighbors_built_at"})
        self._shared = self._new_list()
        if self._shared is not None:
            self._shared.set_state(built_at)

    def _new_list(self) -> SharedEvaluators | None:
        """One list for all members; None where they cannot share it."""
        if not can_share(self.members):
            return None
        skin = self.members[0].skin if self.skin is None else self.skin
        return SharedEvaluators([member.potential for member in self.members], skin)

    def _together(
        self, shared: SharedEvaluators, structures: Sequence[Atoms]
    ) -> list[list[Results]]:
        """Results [structure][member] of potentials over one list of neighbours."""
        batch = AtomsBatch.from_atoms(structures, self.members[0].device)
        of_members = [split_results(result, batch) for result in shared.evaluate(batch)]
        return [list(found) for found in zip(*of_members, strict=True)]


def can_share(members: Sequence[Any]) -> bool:
    """Whether members can share a search: all HybridFF, on one device."""
    first = members[0]
    return all(isinstance(m, HybridFF) and m.device == first.device for m in members)


def evaluate_each(member: Any, structures: Sequence[Atoms]) -> list[Results]:
    """Results of one calculator for many structures, in one pass where it can do that."""
    if isinstance(member, HybridFF):
        return member.evaluate(structures)
    return [results_of(member, atoms) for atoms in structures]


def results_of(member: Any, atoms: Atoms) -> Results:
    """What an ASE calculator gives for a structure: energy, forces, and the rest if it has it."""
    found: Results = {}
    for name in AVERAGED:
        skipped = name == "stress" and not atoms.pbc.all()
        if name not in member.implemented_properties or skipped:
            continue
        try:
            value = member.get_property(name, atoms)
        except PropertyNotImplementedError:
            continue
        if value is not None:
            found[name] = value
    if np.shape(found.get("stress", ())) == (3, 3):
        found["stress"] = full_3x3_to_voigt_6_stress(found["stress"])
    if getattr(member, "energy_terms", None):
        found["energy_terms"] = member.energy_terms
    found.setdefault("free_energy", found["energy"])
    return found
