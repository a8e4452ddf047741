"""Short-range networks: species and edge vectors to scalar node features."""

from __future__ import annotations

from collections.abc import Callable

from hff_ase.nets.e3 import E3Net
from hff_ase.nets.get import GET
from hff_ase.nets.network import Network

NETWORKS: dict[str, Callable[..., Network]] = {"get": GET, "e3": E3Net}

__all__ = ["GET", "NETWORKS", "E3Net", "Network"]
