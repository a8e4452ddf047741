"""Labels for training: clusters cut out of boxes, chosen for diversity, computed by quantum codes.

    clusters = cut_clusters(box, "Li", max_atoms=40)
    chosen = [clusters[k] for k in choose_diverse(cluster_features(potential, clusters), 100)]
    labels = label_frames(chosen, PySCFLabeller("b3lyp", "def2-svpd"), "labels.jobs", workers=4)
    write_labelled("labelled.extxyz", chosen, labels)

PySCF, tblite, Dask and dftd3 are the extra ``labels``: imported where they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.labels.chelpg import chelpg_charges, chelpg_points
    from hff_ase.labels.clusters import clusters_of, cut_clusters
    from hff_ase.labels.diversity import choose_diverse, cluster_features
    from hff_ase.labels.eda import EDALabeller
    from hff_ase.labels.engine import label_frames
    from hff_ase.labels.fingerprints import distance_features
    from hff_ase.labels.labeller import Label, Labeller
    from hff_ase.labels.molecules import find_molecules, formal_charge
    from hff_ase.labels.output import labelled_atoms, write_labelled
    from hff_ase.labels.quantum import PySCFLabeller
    from hff_ase.labels.store import LabelStore
    from hff_ase.labels.tight_binding import XTBLabeller

__all__ = [
    "EDALabeller",
    "Label",
    "LabelStore",
    "Labeller",
    "PySCFLabeller",
    "XTBLabeller",
    "chelpg_charges",
    "chelpg_points",
    "choose_diverse",
    "cluster_features",
    "clusters_of",
    "cut_clusters",
    "distance_features",
    "find_molecules",
    "formal_charge",
    "label_frames",
    "labelled_atoms",
    "write_labelled",
]

_MODULES = {
    "chelpg": ("chelpg_charges", "chelpg_points"),
    "clusters": ("clusters_of", "cut_clusters"),
    "diversity": ("choose_diverse", "cluster_features"),
    "eda": ("EDALabeller",),
    "engine": ("label_frames",),
    "fingerprints": ("distance_features",),
    "labeller": ("Label", "Labeller"),
    "molecules": ("find_molecules", "formal_charge"),
    "output": ("labelled_atoms", "write_labelled"),
    "quantum": ("PySCFLabeller",),
    "store": ("LabelStore",),
    "tight_binding": ("XTBLabeller",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Workers compute labels without torch, which takes seconds and half a gigabyte to import.
    if name in _HOME:
        return getattr(import_module(f"hff_ase.labels.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hff_ase.labels' has no attribute {name!r}")
