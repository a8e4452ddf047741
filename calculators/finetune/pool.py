"""Samples of one liquid from one model or several, to be reweighted to any model and state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hff_ase.calculators.finetune import mbar
from hff_ase.calculators.finetune.energies import Energies, evaluate
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector
from hff_ase.potential import HybridPotential

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples with what is needed to give each a weight in another state.

    Attributes:
        ensemble: all samples.
        mixture: [n], of `mbar.log_mixture`.
        n_states: how many models and conditions they were sampled with.
        energies: of the model that is looked at now, with its gradients.
    """

    ensemble: Ensemble
    mixture: Array
    n_states: int
    energies: Energies | None = None

    @classmethod
    def of(cls, ensembles: Sequence[Ensemble], models: Sequence[HybridPotential]) -> Pool:
        """Of ensembles of one liquid and the models that each was sampled with.

        Raises:
            ConfigError: other numbers of them, or states that do not overlap.
        """
        if not ensembles or len(ensembles) != len(models):
            raise ConfigError(f"expected a model for each of {len(ensembles)} ensembles")
        whole = ensembles[0].joined(ensembles[1:])
        known: dict[int, Array] = {}
        reduced = []
        for ensemble, model in zip(ensembles, models, strict=True):
            if id(model) not in known:
                known[id(model)] = evaluate(model, whole).total
            reduced.append(whole.reduced(known[id(model)], ensemble.temperature, ensemble.pressure))
        counts = [len(one) for one in ensembles]
        return cls(whole, mbar.log_mixture(np.stack(reduced), counts), len(counts))

    def with_model(
        self, model: HybridPotential, theta: ParameterVector | None = None, pressure: bool = False
    ) -> Pool:
        """The same samples evaluated with a model."""
        found = evaluate(model, self.ensemble, theta, pressure=pressure)
        return Pool(self.ensemble, self.mixture, self.n_states, found)

    @property
    def known(self) -> Energies:
        """Energies of the evaluated model.

        Raises:
            ConfigError: none was given.
        """
        if self.energies is None:
            raise ConfigError("expected a pool with the energies of a model, got none")
        return self.energies

    def weights(
        self,
        temperature: float | None = None,
        pressure: float | None = None,
        shift: Array | None = None,
    ) -> Array:
        """Weights [n] in the state of the evaluated model.

        Args:
            temperature, pressure: K and bar, where they differ.
            shift: [n], eV, added to the energies (a step in parameters, to first order).
        """
        energy = self.known.total if shift is None else self.known.total + shift
        return mbar.weights(self.ensemble.reduced(energy, temperature, pressure), self.mixture)
