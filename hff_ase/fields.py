"""The per-atom fields that terms pass to each other, each declared once."""

from __future__ import annotations

FIELDS: dict[str, str] = {
    "node_features": "[n_atoms, channels], scalar features of the short-range network, its dtype",
    "dipoles": "[n_atoms, 3] float64, induced dipoles in e Angstrom",
    "charges": "[n_atoms] float64, partial charges in e, summing to the charge of each system",
    "permanent_dipoles": "[n_atoms, 3] float64, dipoles of fixed moments in e Angstrom",
    "permanent_quadrupoles": "[n_atoms, 3, 3] float64, traceless quadrupoles (Buckingham's Theta) "
    "of fixed moments in e Angstrom^2",
}


DIPOLES = ("dipoles", "permanent_dipoles")  # of atoms, beside what their charges make
VECTORS = DIPOLES  # that turn with the system
TENSORS = ("permanent_quadrupoles",)  # of second rank, that turn twice; all others stay


def check_fields(names: tuple[str, ...], owner: str) -> None:
    """Refuse a field name that is not declared above."""
    for name in names:
        if name not in FIELDS:
            raise KeyError(f"{owner} names the field {name!r}; declared are {sorted(FIELDS)}")
