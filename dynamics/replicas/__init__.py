"""Many runs of molecular dynamics in one batch: copies, temperatures, pressures, compositions.

config = ReplicaConfig.from_settings(
    {"structure": "box.extxyz", "model": "electrolyte", "time": "50ps",
     "replicas": 64, "temperature": [280, 300, 320, 340]}
)
summary = ReplicaRun.start(config).run()
"""

from __future__ import annotations

from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.replica_run import ReplicaRun

__all__ = ["ReplicaConfig", "ReplicaRun"]
