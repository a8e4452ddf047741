"""Energy terms. A new one is a file in this folder and a line in `TERMS`."""

from __future__ import annotations

from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.bond_network import BondNetwork
from hff_ase.terms.bonded import Bonded
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.dispersion import D3Dispersion
from hff_ase.terms.excluded_coulomb import ExcludedCoulomb
from hff_ase.terms.exp6 import ChargeTransfer, Exp6
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.fixed_multipoles import FixedMultipoles
from hff_ase.terms.induced_dipoles import InducedDipoles
from hff_ase.terms.multipole_induction import MultipoleInduction
from hff_ase.terms.multipoles import Multipoles
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.qeq import FeatureQEq, QEq
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.short_range import ShortRange
from hff_ase.terms.slater import SlaterPairs
from hff_ase.terms.slater_dispersion import SlaterDispersion
from hff_ase.terms.term import Term
from hff_ase.terms.uniform_field import UniformField

TERMS: dict[str, type[Term]] = {
    term.kind: term
    for term in (
        ShortRange,
        PredictedCharges,
        QEq,
        FeatureQEq,
        Coulomb,
        D3Dispersion,
        BambooDispersion,
        ZBL,
        FixedCharges,
        Bonded,
        Exp6,
        ChargeTransfer,
        ExcludedCoulomb,
        InducedDipoles,
        FixedMultipoles,
        Multipoles,
        MultipoleInduction,
        BondNetwork,
        SlaterPairs,
        SlaterDispersion,
        UniformField,
    )
}

__all__ = ["TERMS", "Term", *sorted(term.__name__ for term in TERMS.values())]
