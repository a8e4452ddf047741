"""What a step on a GPU must cost at least: bytes and operations of each term, and peak rates.

    python benchmarks/roofline.py --atoms 10000 --channels 64 --layers 3

Counts follow the kernels as they are written (`hff_ase.kernels.get.gpu_messages`,
`hff_ase.kernels.get.layers` ...), not what a cleverer algorithm could save. A term takes as long as
the slowest of its three resources: memory (each array once), L2 (what neighbours' rows and tables
cost when nothing is found in L1), arithmetic. Kernels of a graph follow each other at a distance of
about a microsecond. Where there is a GPU, its rates are measured and printed as well.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch

GAP = 1.5e-6  # seconds from one kernel of a graph to the next
DENSITY = 0.1  # atoms per cubic Angstrom of a carbonate electrolyte


@dataclass(frozen=True)
class Machine:
    """Rates per second; the L2 rate of the H200 is an assumption, the others its data sheet's."""

    name: str
    memory: float
    l2: float
    float32: float
    float64: float


H200 = Machine("H200 (data sheet)", 4.8e12, 5.5e12, 67e12, 34e12)


@dataclass(frozen=True)
class Cost:
    """Bytes from memory and from L2, operations in either precision, kernels launched."""

    memory: float = 0.0
    l2: float = 0.0
    float32: float = 0.0
    float64: float = 0.0
    launches: int = 1

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.memory + other.memory,
            self.l2 + other.l2,
            self.float32 + other.float32,
            self.float64 + other.float64,
            self.launches + other.launches,
        )

    def seconds(self, machine: Machine) -> float:
        """The slowest resource and the gaps between kernels."""
        return GAP * self.launches + max(
            self.memory / machine.memory,
            self.l2 / machine.l2,
            self.float32 / machine.float32 + self.float64 / machine.float64,
        )


@dataclass(frozen=True)
class System:
    """A box and a model: ``near``, ``near_listed``, ``far_listed`` are neighbours of an atom within
    the network's cutoff, the same with the skin, and within the pair cutoff and skin."""

    n: int
    channels: int
    heads: int
    layers: int
    cutoff: float
    pair_cutoff: float
    skin: float
    mesh_spacing: float
    order: int
    shared_first: bool

    def neighbours(self, distance: float) -> float:
        return DENSITY * 4.0 / 3.0 * math.pi * distance**3

    @property
    def edges(self) -> float:
        return self.n * self.neighbours(self.cutoff)

    @property
    def mesh_points(self) -> float:
        return self.n / DENSITY / self.mesh_spacing**3


EDGE = 44  # bytes of an edge's record: index and geometry
LISTED = 16  # bytes of a listed pair: partner and shift


def edge_preparation(s: System) -> Cost:
    """The list with skin to records of the edges within the cutoff."""
    listed = s.n * s.neighbours(s.cutoff + s.skin)
    return Cost(listed * LISTED + s.edges * EDGE, listed * 24, 0.0, listed * 40 + s.edges * 25)


def message_forward(s: System, layer: int) -> Cost:
    """k_j, v_j and the cubic of e; m and, but in the last layer, M."""
    C, vectors = s.channels, layer < s.layers - 1
    rows = 0 if layer == 0 and s.shared_first else 2
    operations = (6 + 2 + 1 + 2 + (6 if vectors else 0)) * C + 12 * s.heads
    memory = s.n * 4 * C * (3 + 1 + (3 if vectors else 0)) + s.edges * EDGE
    return Cost(memory, s.edges * ((rows + 4) * 4 * C + EDGE), s.edges * operations)


def message_backward(s: System, layer: int) -> Cost:
    """q_j, k_j, v_j, the gradients at j and the cubic; both directions of every edge."""
    C, vectors = s.channels, layer < s.layers - 1
    rows = 0 if layer == 0 and s.shared_first else 3
    gradients = 1 + (3 if vectors else 0)
    operations = (12 + 4 + 2 + 4 + 2 + 5 + (24 if vectors else 0)) * C + 36 * s.heads + 40
    operations += 6 * C if layer > 0 else 0
    memory = s.n * 4 * C * (3 + gradients + (3 if layer > 0 else 0)) + s.edges * EDGE
    return Cost(memory, s.edges * ((rows + gradients + 4) * 4 * C + EDGE), s.edges * operations)


def nodes(s: System, layer: int, backward: bool) -> Cost:
    """Normalisation, projections and updates of one layer between two edge sums.

    ``moved`` counts rows of C floats read or written by torch's separate operations.
    """
    C = s.channels
    parts = 1 if layer == 0 else 2 if layer == s.layers - 1 else 3
    products = (3 if layer > 0 else 0) + parts + (3 * parts if layer > 0 else 0)
    if layer == 0:
        moved, launches = (9, 3) if not backward else (3, 1)
    elif not backward:
        moved, launches = (6 + 1 + parts + 3 + 3 * parts + 14, 7)
        if parts == 3:
            moved, launches = moved + 17, launches + 2
    else:
        moved, launches = (2 * parts + 2 * 3 * parts + 25 + 3 + 3 * parts + 10, 13)
        if parts == 3:
            moved, launches = moved + 22, launches + 4
    return Cost(4.0 * s.n * C * moved, 0.0, 2.0 * s.n * C * C * products, 0.0, launches)


def heads(s: System) -> Cost:
    """Energy and charge networks, forward and backward."""
    widths = ((s.channels, 32), (32, 32), (32, 1))
    products = 2 * 3 * sum(a * b for a, b in widths)
    return Cost(4.0 * s.n * 2 * 8 * s.channels, 0.0, 2.0 * s.n * products, 0.0, 40)


def pair_pass(s: System, operations: int = 150) -> Cost:
    """One pass over a full list of the long range, with derivatives: gathers, no atomics."""
    listed = s.n * s.neighbours(s.pair_cutoff + s.skin)
    within = s.n * s.neighbours(s.pair_cutoff)
    return Cost(listed * LISTED, listed * 40, within * operations, listed * 30)


def mesh(s: System) -> Cost:
    """Spread, transform, convolve, transform back, interpolate potential and field; float64."""
    points, stencil = s.mesh_points, s.n * s.order**3
    transforms = 2 * 2.5 * points * math.log2(max(points, 2.0))
    memory = points * 8 * (1 + 2 * 3 * 2 + 2)  # clear, two transforms of three axes, convolution
    return Cost(memory, stencil * 8 * 3, 0.0, transforms + stencil * 14 + points * 20, 12)


def terms(s: System) -> dict[str, Cost]:
    """Every term of a step."""
    found = {"edge preparation": edge_preparation(s)}
    for layer in range(s.layers):
        found[f"layer {layer + 1} messages forward"] = message_forward(s, layer)
        found[f"layer {layer + 1} messages backward"] = message_backward(s, layer)
        found[f"layer {layer + 1} nodes"] = nodes(s, layer, False) + nodes(s, layer, True)
    found["heads"] = heads(s)
    found[f"pair pass, {s.pair_cutoff:g} A"] = pair_pass(s)
    found["mesh"] = mesh(s)
    found["skin check, sums, integrator"] = Cost(s.n * 24 * 20.0, 0.0, 0.0, s.n * 60.0, 15)
    return found


def measured() -> Machine:
    """Rates of the GPU in use: a copy, a gather of rows out of L2, matrix products."""

    def rate(work: float, call: object) -> float:
        assert callable(call)
        for _ in range(3):
            call()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        for _ in range(20):
            call()
        events[1].record()
        torch.cuda.synchronize()
        return 20 * work / (1e-3 * events[0].elapsed_time(events[1]))

    source = torch.rand(2**29, device="cuda")  # 2 GiB
    target = torch.empty_like(source)
    memory = rate(2.0 * source.nbytes, lambda: target.copy_(source))
    rows = torch.rand(20_000, 64, device="cuda")  # 5 MB: stays in L2
    index = torch.randint(20_000, (2**22,), device="cuda")
    sums = torch.arange(0, 2**22, 64, device="cuda")
    bag = torch.nn.functional.embedding_bag  # reads rows, writes a 64th of them
    l2 = rate(index.numel() * 256.0, lambda: bag(index, rows, sums, mode="sum"))
    products = {}
    for dtype in (torch.float32, torch.float64):
        a = torch.rand(8192, 8192, device="cuda", dtype=dtype)
        products[dtype] = rate(2.0 * 8192**3, lambda a=a: a @ a)
    name = f"{torch.cuda.get_device_name()} (measured)"
    return Machine(name, memory, l2, products[torch.float32], products[torch.float64])


def print_table(s: System, machine: Machine) -> None:
    """One line per term."""
    print(
        f"\n{machine.name}: memory {machine.memory * 1e-12:.2f} TB/s, L2 {machine.l2 * 1e-12:.2f} "
        f"TB/s, float32 {machine.float32 * 1e-12:.0f} and float64 {machine.float64 * 1e-12:.0f} "
        "TFLOP/s"
    )
    print(f"{s.n} atoms, GET {s.layers} x {s.channels}, {s.edges / s.n:.0f} neighbours")
    print(f"{'term':30s} {'memory MB':>10s} {'L2 MB':>8s} {'GFLOP':>7s} {'kernels':>7s} {'us':>7s}")
    total = Cost(launches=0)
    time = 0.0
    for name, cost in terms(s).items():
        total, time = total + cost, time + cost.seconds(machine)
        print(_line(name, cost, cost.seconds(machine)))
    print(_line("all", total, time))
    print(f"{1e3 * time:.2f} ms/step, {0.0864 / time:.0f} ns/day at 1 fs")


def _line(name: str, cost: Cost, seconds: float) -> str:
    operations = (cost.float32 + cost.float64) * 1e-9
    return (
        f"{name:30s} {cost.memory * 1e-6:10.1f} {cost.l2 * 1e-6:8.0f} {operations:7.2f} "
        f"{cost.launches:7d} {1e6 * seconds:7.1f}"
    )


def main() -> None:
    """Print the table for the data sheet and, where there is one, for the GPU in use."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--cutoff", type=float, default=5.0)
    parser.add_argument("--pair-cutoff", type=float, default=10.0)
    parser.add_argument("--skin", type=float, default=1.0)
    parser.add_argument("--mesh-spacing", type=float, default=0.56, help="Angstrom")
    parser.add_argument("--order", type=int, default=5, help="of the splines")
    parser.add_argument(
        "--shared-first", action="store_true", help="q, k, v of the first layer read per species"
    )
    options = vars(parser.parse_args())
    system = System(n=options.pop("atoms"), **options)
    print_table(system, H200)
    if torch.cuda.is_available():
        print_table(system, measured())


if __name__ == "__main__":
    main()
