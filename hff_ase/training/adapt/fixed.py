"""Which terms are trained, and which are only subtracted from the labels."""

from __future__ import annotations

from hff_ase.potential import HybridPotential


def split_fixed(potential: HybridPotential) -> tuple[HybridPotential, HybridPotential | None]:
    """The part of a potential that is trained, and the fixed rest (None if there is none).

    A term without trainable parameters is fixed if it neither uses nor gives anything that the
    trained part has to do with: dispersion and repulsion as a rule, Coulomb only where the charges
    are fixed as well.
    """
    names = [name for name, _ in potential.named_terms()]
    moving = {
        name
        for name, term in potential.named_terms()
        if any(parameter.requires_grad for parameter in term.parameters())
    }
    terms = dict(potential.named_terms())
    while True:
        given = {field for name in moving for field in terms[name].gives}
        needed = {field for name in moving for field in terms[name].needs}
        more = {
            name
            for name in names
            if name not in moving
            and (given.intersection(terms[name].needs) or needed.intersection(terms[name].gives))
        }
        if not more:
            break
        moving |= more
    fixed = [name for name in names if name not in moving]
    if not moving:
        return potential, None
    return potential.subset(moving), potential.subset(fixed) if fixed else None
