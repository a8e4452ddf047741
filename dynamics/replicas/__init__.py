"""Many runs of molecular dynamics in one batch: copies, temperatures, pressures, compositions.

config = ReplicaConfig.load(
    {"structure": "box.extxyz", "model": "electrolyte", "time": "50ps",
     "replicas": 64, "temperature": [280, 300, 320, 340]}
)
summary = ReplicaRun.start(config).run()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.dynamics.replicas.config import ReplicaConfig
    from hff_ase.dynamics.replicas.replica_run import ReplicaRun

__all__ = ["ReplicaConfig", "ReplicaRun"]


def __getattr__(name: str) -> Any:
    # Late: the help of the command line reads the settings and needs nothing else.
    if name == "ReplicaConfig":
        from hff_ase.dynamics.replicas.config import ReplicaConfig

        return ReplicaConfig
    if name == "ReplicaRun":
        from hff_ase.dynamics.replicas.replica_run import ReplicaRun

        return ReplicaRun
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
