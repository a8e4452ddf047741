"""Check that a model knows the elements of its frames."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from ase.data import chemical_symbols

from hff_ase.data.labels import source_of
from hff_ase.errors import StructureError
from hff_ase.potential import HybridPotential


def check_frames_known(potential: HybridPotential, frames: Sequence[Atoms]) -> None:
    """Refuse frames with an element that the model does not know.

    Raises:
        StructureError: names elements and frame, and the way out.
    """
    known = set(potential.elements or chemical_symbols)
    for atoms in frames:
        unknown = sorted(set(atoms.symbols) - known)
        if unknown:
            raise StructureError(
                f"expected the elements of the model, {' '.join(potential.elements or ())}, got "
                f"{' '.join(unknown)} in frame {source_of(atoms)}; add_elements (on the command "
                "line --adapt.add-elements) extends a trained model"
            )
