"""i-PI with its batched MACE driver in one process: time per step. Started by pimd_beads.py.

Runs in an environment of its own with mace-torch and i-PI, and imports nothing of hff_ase. The
weights are random (the network of peers/mace_peer.py); unlike hff_ase, the driver searches for
neighbours at every step.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ase.io import read

sys.path.insert(0, str(Path(__file__).with_name("peers")))
from common import graph_of
from mace_peer import VARIANTS, build


def main() -> None:
    """Measure, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with input.xml and start.extxyz")
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="off-small")
    parser.add_argument("--beads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    os.chdir(args.folder)
    graph = graph_of([read("start.extxyz")], VARIANTS[args.variant][1])
    torch.save(build(args.variant, len(graph.i) / len(graph.numbers)), "mace.model")
    from ipi.scripting import InteractiveSimulation

    simulation = InteractiveSimulation(with_mace(Path("input.xml").read_text(), args))
    simulation.run(args.warmup, write_outputs=False)
    (field,) = (f for f in simulation.fflist.values() if hasattr(f, "driver"))
    times: dict[str, list[float]] = {"step": [], "driver": []}
    simulation.run_step = around(simulation.run_step, times, "step", args.device)
    # by the call: its compute calls itself for a single structure
    field.driver = around(field.driver, times, "driver", args.device)
    simulation.run(args.steps, write_outputs=False)
    if len(times["step"]) < args.steps:
        raise RuntimeError(f"i-PI stopped after {len(times['step'])} of {args.steps} steps")
    step, driver = (statistics.median(times[name]) for name in ("step", "driver"))
    sys.stdout.write("\n" + json.dumps({"mace": step, "mace_driver": driver}) + "\n")


def with_mace(text: str, args: argparse.Namespace) -> str:
    """The same input with MACE as its force field."""
    options = f"template: start.extxyz, model: mace.model, device: {args.device}"
    field = f"""<ffdirect name="hff" pbc="False" threaded="False">
    <pes>mace</pes>
    <batch_size>{args.beads}</batch_size>
    <parameters>{{ {options} }}</parameters>
  </ffdirect>"""
    return re.sub(r"<ffdirect.*?</ffdirect>", field, text, flags=re.DOTALL)


def around(
    function: Callable[..., Any], times: dict[str, list[float]], name: str, device: str
) -> Callable[..., Any]:
    """The function, with its milliseconds counted."""

    def ready() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    def counted(*given: Any, **named: Any) -> Any:
        ready()
        start = time.perf_counter()
        result = function(*given, **named)
        ready()
        times[name].append(1e3 * (time.perf_counter() - start))
        return result

    return counted


if __name__ == "__main__":
    main()
