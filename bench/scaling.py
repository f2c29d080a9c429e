"""How time and memory of `doit deploy` grow with the monorepo, from 5 to 500 services.

    python -m bench.scaling 5 20 100 200 500 --repeat 3

prints medians for each size and, for each scenario, two exponents of growth with the number of files: of the line that
fits all sizes best on logarithmic scales, and of the steepest step between two sizes. 1 is linear; what a run pays
once, such as starting Python, makes it smaller. CPU seconds are counted, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from bench.compare import add_shape, machine, shape_of
from bench.monorepo import Shape
from bench.running import SCENARIOS, Checkout, Cost, control_plane

_QUANTITIES: dict[str, Callable[[Cost], float]] = {"CPU": lambda cost: cost.cpu, "memory": lambda cost: cost.memory}
Medians = dict[str, list[tuple[int, Cost]]]
"""Scenario -> number of files and median cost, for each size."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("services", type=int, nargs="*", default=[5, 20, 100, 200, 500], help="sizes of the monorepo")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is run; medians are shown")
    add_shape(parser)
    options = parser.parse_args()
    print(f"{machine()}, {options.repeat} runs each\n", flush=True)
    print("| services | files | scenario | time | CPU | peak memory |\n|---|---|---|---|---|---|", flush=True)
    medians: Medians = defaultdict(list)
    with control_plane() as endpoint:
        for services in options.services:
            for line in _measured(services, options.repeat, endpoint, shape_of(options), medians):
                print(line, flush=True)
    print("\n| scenario | exponent of | fitted | steepest step |\n|---|---|---|---|")
    for name, costs in medians.items():
        for quantity, value in _QUANTITIES.items():
            points = [(files, value(cost)) for files, cost in costs]
            steepest = max(exponent(pair) for pair in pairwise(points)) if len(points) > 1 else math.nan
            print(f"| {name} | {quantity} | {exponent(points):.2f} | {steepest:.2f} |")
    return 0


def _measured(services: int, repeat: int, endpoint: str, shape: Shape, medians: Medians) -> Iterator[str]:
    costs: dict[str, list[Cost]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(repeat):
            checkout = Checkout(Path(temporary).resolve() / str(number), services, endpoint, shape)
            for scenario in SCENARIOS:
                scenario.prepare(checkout)
                costs[scenario.name].append(checkout.deploy())
        files = checkout.files
    for name, each in costs.items():
        median = Cost(
            seconds=statistics.median(cost.seconds for cost in each),
            cpu=statistics.median(cost.cpu for cost in each),
            memory=max(cost.memory for cost in each),
        )
        medians[name].append((files, median))
        yield (
            f"| {services} | {files} | {name} | {median.seconds:.2f} s | {median.cpu:.2f} s "
            f"| {median.memory / 1e6:.0f} MB |"
        )


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line that fits the points best on logarithmic scales."""
    if len(points) < 2:
        return math.nan
    x, y = ([math.log(point[at]) for point in points] for at in (0, 1))
    return statistics.linear_regression(x, y).slope


if __name__ == "__main__":
    sys.exit(main())
