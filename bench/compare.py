"""`flyte deploy --recursive` and `doit deploy` side by side: one run, one control plane, one monorepo.

    python -m bench.compare 5 20 40 100 --repeat 3

prints a Markdown table: medians in seconds, how many times faster flyte_build is, its own CPU seconds and peak memory,
and what `doit` itself takes for as many tasks that check nothing. In each round both go through all scenarios, one
after the other and in a fresh checkout, as their users do: what a tool leaves in the system's caches serves its own
next run. The control plane answers at once, in a process of its own: what is measured is the client.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bench import shared_cache
from bench.monorepo import SHAPE, Shape
from bench.running import SCENARIOS, Checkout, Cost, Scenario, control_plane, floor

_HEAD = """\
| services | scenario | `flyte deploy` | `doit deploy` | times faster | CPU | peak memory |
|---|---|---|---|---|---|---|"""
_FLOOR = "no-op of `doit` itself"
_ROWS = (*(scenario.name for scenario in SCENARIOS), shared_cache.SCENARIO, _FLOOR)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("services", type=int, nargs="*", default=[5, 20, 40, 100], help="sizes of the monorepo")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is run; medians are shown")
    parser.add_argument("--without-peer", action="store_true", help="measure flyte_build alone")
    parser.add_argument(
        "--cold", action="store_true", help="measure the cold deploy alone, the longest wait of the peer"
    )
    add_shape(parser)
    options = parser.parse_args()
    print(f"{machine()}, {options.repeat} runs each\n\n{_HEAD}", flush=True)
    with control_plane() as endpoint:
        for services in options.services:
            scenarios = SCENARIOS[:1] if options.cold else SCENARIOS
            costs = measure(
                services, options.repeat, endpoint, scenarios, shape_of(options), peer=not options.without_peer
            )
            for line in _lines(services, costs):
                print(line, flush=True)
    return 0


def add_shape(parser: argparse.ArgumentParser) -> None:
    for name in ("modules", "tasks", "shared"):
        default = getattr(SHAPE, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of the monorepo; default: {default}")
    parser.add_argument("--heavy", default=SHAPE.heavy, help="a package that every workflow imports, such as boto3")


def shape_of(options: argparse.Namespace) -> Shape:
    return Shape(modules=options.modules, tasks=options.tasks, shared=options.shared, heavy=options.heavy)


def machine() -> str:
    """What was measured, and on what."""
    versions = f"Python {platform.python_version()}, flyte {version('flyte')}, doit {version('doit')}"
    return f"{platform.machine()}, {os.cpu_count()} cores, {versions}"


def measure(
    services: int, repeat: int, endpoint: str, scenarios: Sequence[Scenario], shape: Shape, *, peer: bool
) -> dict[tuple[str, str], list[Cost]]:
    """(scenario, who) -> the costs of each run."""
    costs: dict[tuple[str, str], list[Cost]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        deploys = {"ours": Checkout.deploy, **({"peer": Checkout.peer_deploy} if peer else {})}
        idle = floor(folder / "floor", services)
        for number in range(repeat):
            for who, deploy in deploys.items():
                checkout = Checkout(folder / f"{who}-{number}", services, endpoint, shape)
                for scenario in scenarios:
                    scenario.prepare(checkout)
                    costs[scenario.name, who].append(deploy(checkout))
                    print(f"{services} {who} {scenario.name}: {costs[scenario.name, who][-1]}", file=sys.stderr)
            costs[_FLOOR, "ours"].append(idle())
        cache = f'url = "file://{folder}/cache"'
        taken = shared_cache.measure(folder / "shared", services, endpoint, cache, repeat=repeat, environ={})
        costs[shared_cache.SCENARIO, "ours"].append(Cost(taken, 0, 0))
        if peer:
            costs[shared_cache.SCENARIO, "peer"] = costs["cold", "peer"]  # a fresh machine has nothing of the peer's
    return costs


def _lines(services: int, costs: dict[tuple[str, str], list[Cost]]) -> Iterator[str]:
    for name in filter(lambda name: (name, "ours") in costs, _ROWS):
        ours = _median(each.seconds for each in costs[name, "ours"])
        peer = _median(each.seconds for each in costs[name, "peer"]) if (name, "peer") in costs else 0.0
        cpu = _median(each.cpu for each in costs[name, "ours"])
        memory = max(each.memory for each in costs[name, "ours"]) / 1e6
        theirs, ratio = (f"{peer:.1f} s", f"{peer / ours:.1f}") if peer else ("", "")
        used = f"{cpu:.2f} s | {memory:.0f} MB" if memory else " | "
        yield f"| {services} | {name} | {theirs} | {ours:.2f} s | {ratio} | {used} |"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    sys.exit(main())
