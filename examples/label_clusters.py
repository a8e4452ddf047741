"""Labels for training from a box: ion pairs and shells cut out, the most different ones labelled.

Labelled with GFN2-xTB here, which takes seconds; ``PySCFLabeller("b3lyp", "def2-svpd")`` in its
place gives DFT labels with CHELPG charges. The labelled file can be trained on as it is.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.labels import (
    XTBLabeller,
    choose_diverse,
    cluster_features,
    cut_clusters,
    label_frames,
    write_labelled,
)

box = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 200, seed=3)
clusters = cut_clusters(box, "Li", max_atoms=30, seed=0) + cut_clusters(box, "PF6", max_atoms=30)
features = cluster_features(HybridFF.load("electrolyte").potential, clusters)
chosen = [clusters[k] for k in choose_diverse(features, 3)]
print(f"{len(clusters)} clusters, chosen: {', '.join(str(c.symbols) for c in chosen)}")

if find_spec("tblite") is None:
    print("labels need tblite: pip install 'hff-ase[labels]'")
else:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "jobs"  # keep it, and a second run computes only what is new
        labels = label_frames(chosen, XTBLabeller(), store, workers=0)
        write_labelled(Path(folder) / "labelled.extxyz", chosen, labels)
    for cluster, label in zip(chosen, labels, strict=True):
        energy, force = float(label.arrays["energy"]), abs(label.arrays["forces"]).max()
        print(
            f"{cluster.info['molecules']:<40} charge {cluster.info['charge']:+d} e   "
            f"E {energy:12.4f} eV   largest force {force:6.2f} eV/A"
        )
