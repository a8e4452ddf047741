r"""Components of interaction energies as a molecular model has them, and how parameters move them.

Permanent electrostatics of an energy decomposition is that of molecules as they are alone, with the
dipoles that their own charges induce. A model of charges and induced dipoles counts these dipoles
as polarisation; their interaction,

.. math:: E = k_e \sum_{i \in A, j \in B} \mu_i T_{ij} \mu_j - \mu_i F_{ij} - \mu_j F_{ji},

is therefore moved from the polarisation to the electrostatics (ByteFF-Pol's bookkeeping,
arXiv 2508.08575).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from hff_ase import parameters as named
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.molecular.assignment import Assigner
from hff_ase.parameter_vector import ParameterVector
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.excluded_coulomb import ExcludedCoulomb
from hff_ase.terms.exp6 import ChargeTransfer, Exp6
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.induced_dipoles import InducedDipoles

Array = NDArray[np.float64]
COMPONENTS = ("dispersion", "electrostatics_pauli", "polarization", "charge_transfer")


class InteractionEnergies:
    """Interaction energies of clusters of rigid molecules, component by component.

    Args:
        potential: a sum of fixed charges, `Coulomb`, `Exp6`, `ChargeTransfer`, `InducedDipoles`.
        frames: clusters without a cell, with ``arrays["molecule"]`` and ``info["charge"]``.
        charges: of the molecules of each frame, by id.

    Raises:
        ConfigError: a model of other terms.
        StructureError: a frame with a cell or without ids.
    """

    def __init__(
        self,
        potential: HybridPotential,
        frames: Sequence[Atoms],
        charges: Sequence[dict[int, int]],
    ) -> None:
        self.potential = potential
        terms = dict(potential.named_terms())
        kinds = (FixedCharges, Coulomb, ExcludedCoulomb, Exp6, ChargeTransfer, InducedDipoles)
        names = [[n for n, term in terms.items() if type(term) is kind] for kind in kinds]
        if any(len(found) != 1 for found in names):
            wanted = ", ".join(kind.kind for kind in kinds)
            raise ConfigError(f"expected a model with one each of {wanted}, got {', '.join(terms)}")
        fixed, coulomb, excluded, exp6, transfer, induction = (found[0] for found in names)
        self.parts = {
            "dispersion": [f"{exp6}.dispersion"],
            "electrostatics_pauli": [coulomb, excluded, f"{exp6}.repulsion"],
            "polarization": [induction],
            "charge_transfer": [transfer],
        }
        self._fixed, self._induction = terms[fixed], terms[induction]
        self.frames = list(frames)
        if any(a.pbc.any() or "molecule" not in a.arrays for a in self.frames):
            raise StructureError("expected dimers without a cell and with ids of their molecules")
        systems, self._rows = self._distinct(charges)
        self.batch = AtomsBatch.from_atoms(systems)
        self.evaluator = Evaluator(potential, trajectory=False)
        self._geometries = [self._geometry(atoms) for atoms in self.frames]
        self._whole, self._alone, self._order = self._taken_apart(charges)

    def _distinct(self, charges: Sequence[dict[int, int]]) -> tuple[list[Atoms], Array]:
        """Frames and their different molecules, and what is taken of each for a frame's energy.

        A scan moves molecules as they are: one of the same distances has the same energy.
        """
        systems, known = list(self.frames), dict[tuple[bytes, bytes], int]()
        rows: list[list[int]] = []
        for atoms, of in zip(self.frames, charges, strict=True):
            mine = []
            for number in np.unique(atoms.arrays["molecule"]):
                part = atoms[atoms.arrays["molecule"] == number]
                distances = np.round(part.get_all_distances(), 6) + 0.0
                key = part.numbers.tobytes(), distances.tobytes()
                if key not in known:
                    part.info = {"charge": of[int(number)]}
                    known[key] = len(systems)
                    systems.append(part)
                mine.append(known[key])
            rows.append(mine)
        taken = np.zeros((len(self.frames), len(systems)))
        for k, mine in enumerate(rows):
            taken[k, k] = 1.0
            for place in mine:
                taken[k, place] -= 1.0
        return systems, taken

    def _taken_apart(
        self, charges: Sequence[dict[int, int]]
    ) -> tuple[AtomsBatch, AtomsBatch, Tensor]:
        """All frames, their molecules where they are, and the atom of the frames each atom is."""
        alone, order, first = [], list[np.ndarray](), 0
        for atoms, of in zip(self.frames, charges, strict=True):
            ids = atoms.arrays["molecule"]
            for number in np.unique(ids):
                part = atoms[ids == number]
                part.info = {"charge": of[int(number)]}
                alone.append(part)
                order.append(first + np.flatnonzero(ids == number))
            first += len(atoms)
        rows = torch.as_tensor(np.concatenate(order))
        return AtomsBatch.from_atoms(self.frames), AtomsBatch.from_atoms(alone), rows

    def largest_forces(self) -> Array:
        """The largest component of a force between molecules, [n_frames], eV/Angstrom."""
        found = [
            self.evaluator.evaluate(batch, derivatives=["positions"]).forces
            for batch in (self._whole, self._alone)
        ]
        frames, alone = (one.detach().double().cpu() for one in found if one is not None)
        size = (frames[self._order] - alone).abs().amax(1)
        largest = torch.zeros(len(self.frames), dtype=torch.float64)
        system = self._whole.system[self._order]
        return largest.scatter_reduce(0, system, size, "amax").numpy()

    def energies(self) -> Array:
        """[n_frames, n_components], eV."""
        found = [
            self.evaluator.evaluate(self.batch, parts=parts, derivatives=[]).energy
            for parts in self.parts.values()
        ]
        values = self._rows @ np.stack([e.detach().double().cpu().numpy() for e in found], axis=1)
        with torch.no_grad():
            permanent = np.array([float(e) for e in self._induced_permanent()])
        return _moved(values, permanent)

    def gradients(self, theta: ParameterVector) -> Array:
        """dE/dtheta [n_frames, n_components, p], eV, in the coordinates of theta."""
        found = []
        for parts in self.parts.values():
            result = self.evaluator.evaluate(
                self.batch, parts=parts, derivatives=["parameters"], parameters=theta.names
            )
            found.append(self._rows @ theta.gradients(result.parameter_gradients))
        leaves = named.tensors(self.potential, theta.names)
        others = [p for p in self.potential.parameters() if p.requires_grad]
        with named.requiring_gradients(list(leaves.values()), others), torch.enable_grad():
            rows = [named.gradients(e, leaves) for e in self._induced_permanent()]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in leaves}
        return _moved(np.stack(found, axis=1), theta.gradients(stacked))

    def _geometry(self, atoms: Atoms) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Positions and sites of a frame's atoms, factors of the field between each two, and which
        two are of one molecule: what no parameter changes."""
        induction = self._induction
        assert isinstance(induction, InducedDipoles)
        batch = AtomsBatch.from_atoms(atoms)
        site = Assigner(induction.templates)(batch).site
        ids = torch.as_tensor(atoms.arrays["molecule"])
        bonds = _bonds_apart(induction)[site[:, None], site].clamp(max=len(induction.factors) + 1)
        scale = torch.tensor([0.0, *induction.factors, 1.0], dtype=torch.float64)[bonds]
        return batch.positions.double(), site, scale, ids[:, None] == ids

    def _induced_permanent(self) -> list[Tensor]:
        """Interaction of the dipoles that molecules' own charges induce, eV, per frame."""
        fixed, induction = self._fixed, self._induction
        assert isinstance(fixed, FixedCharges)
        assert isinstance(induction, InducedDipoles)
        energies = []
        for positions, site, scale, same in self._geometries:
            energies.append(_interaction(
                positions, fixed.charge()[site],
                induction.polarizability()[site], induction.damping()[site],
                induction.thole, scale, same) * induction.prefactor)  # fmt: skip
        return energies


def _bonds_apart(induction: InducedDipoles) -> Tensor:
    """Bonds between sites [n_sites, n_sites] of one molecule; of others it does not matter."""
    n = induction.templates.n_sites
    apart = torch.full((n, n), 99, dtype=torch.int64)
    for template, first in zip(
        induction.templates.molecules, induction.templates.first, strict=True
    ):
        rows = slice(first, first + len(template.numbers))
        apart[rows, rows] = torch.as_tensor(template.apart)
    return apart


def _interaction(
    positions: Tensor, charge: Tensor, alpha: Tensor, damping: Tensor, thole: float, scale: Tensor,
    same: Tensor,
) -> Tensor:  # fmt: skip
    """The sum of the module's docstring over k_e, for one cluster of n atoms."""
    n = len(positions)
    eye = torch.eye(n, dtype=torch.float64)
    d = positions[:, None] - positions  # from j to i
    r = torch.sqrt(d.square().sum(-1) + eye)
    au3 = thole * r**3 / torch.sqrt(damping[:, None] * damping)
    l3, l5 = 1.0 - torch.exp(-au3), 1.0 - (1.0 + au3) * torch.exp(-au3)
    off = 1.0 - eye
    field = (off * l3 / r**3)[..., None] * d * charge[None, :, None]  # of j at i [n, n, 3]
    coupling = (off * l3 / r**3)[..., None, None] * torch.eye(3, dtype=torch.float64)
    coupling = (
        coupling - (off * 3.0 * l5 / r**5)[..., None, None] * d[..., :, None] * d[..., None, :]
    )
    inside = (field * (scale * same)[..., None]).sum(1)
    own = coupling * same[..., None, None]
    own = own + (eye / alpha)[..., None, None] * torch.eye(3, dtype=torch.float64)
    matrix = own.permute(0, 2, 1, 3).reshape(3 * n, 3 * n)
    mu = torch.linalg.solve(matrix, inside.reshape(-1)).reshape(n, 3)
    across = (~same).double()
    pairs = 0.5 * torch.einsum("ia,ijab,jb,ij", mu, coupling, mu, across)  # i, j; a, b: x, y, z
    return pairs - torch.einsum("ia,ija,ij", mu, field, across)


def _moved(values: Array, permanent: Array) -> Array:
    """With the permanent part of the induced energy among the electrostatics."""
    out = values.copy()
    out[:, COMPONENTS.index("electrostatics_pauli")] += permanent
    out[:, COMPONENTS.index("polarization")] -= permanent
    return out
