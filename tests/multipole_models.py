"""The toy molecules of `core_models` with parameters of multipolar force fields, of no meaning."""

from __future__ import annotations

from typing import Any

from core_models import toy_molecules

OF_ELEMENT = {  # exponent, five amplitudes, C6, C8, C10
    1: (4.4, (6.0, 3.0, 1.0, 0.8, 1.2), (1.2, 4.0, 9.0)),
    3: (4.9, (5.0, 0.0, 0.0, 2.0, 0.0), (0.02, 0.01, 0.004)),
    6: (3.6, (7.0, 3.5, 0.9, 1.1, 0.7), (9.0, 60.0, 190.0)),
    8: (3.9, (12.0, 8.0, 0.4, 2.4, 3.5), (11.0, 70.0, 210.0)),
    9: (3.7, (9.0, 6.0, 1.6, 2.0, 2.2), (7.0, 40.0, 110.0)),
}
AMPLITUDES = ("exchange", "penetration", "induction", "dispersion", "charge_transfer")


def multipolar_molecules() -> list[dict[str, Any]]:
    """Water, chain and Li."""
    found = []
    for entry in toy_molecules():
        of_atoms = [OF_ELEMENT[z] for z in entry["numbers"]]
        own: dict[str, Any] = {"exponent": [row[0] for row in of_atoms]}
        for k, name in enumerate(AMPLITUDES):
            own[name] = [row[1][k] for row in of_atoms]
        for k, name in enumerate(("c6", "c8", "c10")):
            own[name] = [row[2][k] for row in of_atoms]
        found.append({**entry, **own, "damped_charge": entry["charge"]})
    return found
