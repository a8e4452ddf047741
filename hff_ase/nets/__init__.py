"""Short-range networks: species and edge vectors to scalar node features."""

from __future__ import annotations

from hff_ase.nets.get import GET

NETWORKS: dict[str, type[GET]] = {"get": GET}

__all__ = ["GET", "NETWORKS"]
