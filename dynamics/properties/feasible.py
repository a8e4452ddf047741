"""Checks of a request before anything is written or run."""

from __future__ import annotations

from hff_ase.domain import Domain, not_trained_on
from hff_ase.dynamics.build import compose, parse_recipe
from hff_ase.dynamics.build.naming import name_of
from hff_ase.dynamics.equilibration.protocol import EquilibrationConfig
from hff_ase.dynamics.properties.request import Request
from hff_ase.errors import ConfigError, OutsideDomainError
from hff_ase.model_file import domain_in, read_file
from hff_ase.models import model_path


def check_feasible(request: Request) -> None:
    """Refuse boxes that cannot be made, phases that do not fit, and molecules not trained on.

    Raises:
        RecipeError: a recipe that cannot be read, or does not fit into so many atoms.
        ConfigError: settings of the equilibration that contradict each other.
        OutsideDomainError: molecules outside the model's domain, without ``outside_domain``.
        CheckpointError: a model that cannot be read.
    """
    own = dict(request.equilibration)
    if request.max_settling is not None:
        own = {"max_time": request.max_settling, **own}
    try:
        EquilibrationConfig.load({"model": request.model, **own})
    except ConfigError as error:
        hint = "" if request.max_settling is None else " (max_time is --max-settling)"
        raise ConfigError(f"equilibration: {error}{hint}") from None
    domain = None
    if request.model is not None and not request.outside_domain:
        domain = domain_in(read_file(model_path(request.model))[0])
    for recipe in request.recipes:
        check_recipe(recipe, request.atoms, str(request.model), domain)


def check_recipe(recipe: str, n_atoms: int, model: str, domain: Domain | None) -> None:
    """Refuse a box that cannot be made of a recipe, or that a domain does not hold."""
    built = compose(parse_recipe(recipe), n_atoms)
    if domain is None:
        return
    unknown = [
        outside
        for molecule, _ in built.molecules
        for outside in domain.check(molecule.atoms(), name_of)
        if outside.kind == "molecule"
    ]
    if unknown:
        raise OutsideDomainError(not_trained_on(model, unknown, allowed=False))
