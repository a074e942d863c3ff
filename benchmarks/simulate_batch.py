"""From the measured costs of a picture to larger machines: a simulation of one engine, and arithmetic above it.

    python benchmarks/simulate_batch.py [--record benchmarks/results/batch.json] [--markdown | --docs]

Prints the tables of docs/scaling.md. One engine (batch_simulation.py) is fed with what bench_batch.py measured here;
its prediction for this machine stands beside the measured run. GPUs, stores and prices were not measured: they are the
assumptions below, to be replaced by whoever knows better.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batch_report import put_tables
from batch_simulation import Costs, Machine, Outcome, simulate

RESULTS = Path(__file__).parent / "results" / "batch.json"
PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What was not measured.

    Attributes:
        gpu_per_s: pictures a second through the networks on one GPU, batches of 16.
        gpu_host_ms: CPU time of the inference process for each of them.
        cores_per_gpu: of the machine that it sits in.
        gpu_hour: price of a GPU with these cores, in dollars.
        get_1000, put_1000: price of a thousand requests to the store.
        list_ms: for a page of 1,000 names of a store.
        store_ms, store_cpu_ms: until it answers, and what a request costs in the coordinator's process.
        prefix_gets_per_s: requests a second that a store takes for one prefix.
        node_gb_per_s: network of a node of eight GPUs.
        picture_kb: size of an encoded picture in the store.
        days_between_deaths: of a node, for whatever reason.
        restart_s: until its successor works: process, networks.
        footer_ms: to read what one committed shard says of itself; readers: so many at a time.
    """

    gpu_per_s: float = 2500.0
    gpu_host_ms: float = 0.1
    cores_per_gpu: int = 16
    gpu_hour: float = 2.5
    get_1000: float = 0.0004
    put_1000: float = 0.005
    list_ms: float = 100.0
    store_ms: float = 30.0
    store_cpu_ms: float = 1.0
    prefix_gets_per_s: float = 5500.0
    node_gb_per_s: float = 3.0
    picture_kb: float = 75.0
    days_between_deaths: float = 30.0
    restart_s: float = 60.0
    footer_ms: float = 40.0
    readers: int = 16


@dataclass(frozen=True)
class Scenario:
    """A way to run a job: what one of its engines has, how many engines there are, and on how many GPUs."""

    name: str
    machine: Machine
    costs: Costs
    engines: int = 1
    gpus: int = 1

    def outcome(self) -> Outcome:
        """Return what one engine comes to."""
        return simulate(self.machine, self.costs, pictures=2500 * max(1, self.machine.inferers // 2))


def here(record: Record) -> tuple[Machine, Costs]:
    """Return this machine and its costs, as bench_batch.py measured them."""
    rows = record["rows"]
    costs = Costs(
        decode=rows["decode"]["cpu_ms"][0],
        decode_cv=rows["decode"]["cv"][0],
        infer=rows["infer"]["cpu_ms"][0],
        infer_cv=rows["infer"]["cv"][0],
        coordinator=rows["local"]["coordinator_cpu_ms"][0],
    )
    workers = rows["local"]["workers"]
    machine = Machine(
        cpus=record["machine"]["cores"],
        decoders=int(workers["decode"][0]),
        inferers=int(workers["infer"][0]),
        batch=int(rows["infer"]["batch"][0]),
    )
    return machine, costs


def check(record: Record) -> tuple[float, float]:
    """Return predicted and measured pictures a second of the local engine on this machine."""
    machine, costs = here(record)
    return simulate(machine, costs).per_s, record["rows"]["local"]["per_s"][0]


def scenarios(record: Record, assumed: Assumptions) -> list[Scenario]:
    """Return one GPU, eight, and a hundred nodes of eight."""
    _, costs = here(record)
    gpu = replace(costs, infer=assumed.gpu_host_ms, device_per_s=assumed.gpu_per_s, coordinator=coordinator_ms(record))
    store = replace(gpu, fetch_wait=assumed.store_ms, fetch_cpu=assumed.store_cpu_ms)
    cores = assumed.cores_per_gpu
    one = Machine(cpus=cores, decoders=cores - 1, inferers=1, batch=16)
    eight = Machine(cpus=8 * cores, decoders=8 * cores - 1, inferers=8, batch=16)
    return [
        Scenario("1 GPU, local files", one, gpu),
        Scenario("1 GPU, store, 16 fetchers", one, store),
        Scenario("1 GPU, store, 64 fetchers", replace(one, fetchers=64), store),
        Scenario("8 GPUs, one local run", eight, gpu, gpus=8),
        Scenario("8 GPUs, Ray, an engine a GPU", one, gpu, engines=8, gpus=8),
        Scenario("8 GPUs, Ray, four engines a GPU", _share(one, 4), _slower(gpu, 4), engines=32, gpus=8),
        Scenario("800 GPUs, store, an engine each", replace(one, fetchers=64), store, engines=800, gpus=800),
        Scenario("800 GPUs, store, four engines each", _share(one, 4), _slower(store, 4), engines=3200, gpus=800),
    ]


def _share(machine: Machine, engines: int) -> Machine:
    """Return the machine of each of several engines that share a GPU and its cores."""
    cpus = machine.cpus // engines
    return replace(machine, cpus=cpus, decoders=max(1, cpus - 1))


def _slower(costs: Costs, engines: int) -> Costs:
    return replace(costs, device_per_s=costs.device_per_s / engines)


def coordinator_ms(record: Record) -> float:
    """Return the coordinator's time for a picture of a large job of a cheap task: there it never waits for long."""
    return float(record["growth"][-1]["coordinator_cpu_ms"])


def bounded(scenario: Scenario, outcome: Outcome, assumed: Assumptions) -> tuple[float, str]:
    """Return pictures a second of all engines, and what bounds them: an engine, or the network of the nodes."""
    total = outcome.per_s * scenario.engines
    if scenario.costs.fetch_wait:
        nodes = max(1, scenario.gpus // 8)
        network = nodes * assumed.node_gb_per_s * 1e6 / assumed.picture_kb
        if network < total:
            return network, "network of the nodes"
    return total, outcome.bottleneck


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if value >= 100:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def measured_table(record: Record) -> str:
    """Return what the simulation is fed with, and its prediction beside the measured run."""
    machine, costs = here(record)
    predicted, measured = check(record)
    return table(
        ["of a picture, or of this machine", "value"],
        [
            ["decode, CPU-ms", f"{costs.decode:.2f}, varies by {100 * costs.decode_cv:.0f} %"],
            ["inference on the CPU, CPU-ms", f"{costs.infer:.1f}, varies by {100 * costs.infer_cv:.0f} %"],
            ["coordinator and writer in that run, CPU-ms", f"{costs.coordinator:.2f}"],
            ["the same in a job of 10,000 of a cheap task", f"{coordinator_ms(record):.2f}"],
            ["CPUs, decoders, threads that infer", f"{machine.cpus}, {machine.decoders}, {machine.inferers}"],
            ["predicted pictures/s", f"{predicted:.1f}"],
            ["measured pictures/s", f"{measured:.1f}"],
            ["predicted / measured", f"{predicted / measured:.3f}"],
        ],
    )


def scenario_table(record: Record, assumed: Assumptions) -> str:
    """Return what each way to run a job comes to."""
    rows = []
    for scenario in scenarios(record, assumed):
        outcome = scenario.outcome()
        per_s, bound = bounded(scenario, outcome, assumed)
        gpus = scenario.gpus
        rows.append(
            [
                scenario.name,
                number(per_s),
                bound,
                f"{100 * per_s / (gpus * assumed.gpu_per_s):.0f} %",
                f"{100 * outcome.busy['cores']:.0f} %",
                f"{1e6 / per_s / 3600 * gpus * assumed.gpu_hour:.2f}",
            ]
        )
    return table(["run", "pictures/s", "bounded by", "GPUs busy", "cores busy", "$ a million"], rows)


def sensitivity_table(record: Record, assumed: Assumptions) -> str:
    """Return pictures a second of one GPU for faster and slower GPUs, larger pictures, and fewer cores."""
    rows = []
    for cores in (4, 8, 16):
        for decode in (1, 4):
            cells = []
            for per_s in (500.0, 2500.0, 10_000.0):
                scenario = scenarios(record, replace(assumed, gpu_per_s=per_s, cores_per_gpu=cores))[0]
                costs = replace(scenario.costs, decode=scenario.costs.decode * decode)
                outcome = replace(scenario, costs=costs).outcome()
                cells.append(f"{number(outcome.per_s)}, {outcome.bottleneck}")
            rows.append([cores, f"{decode * 640 * 480 / 1e6:.1f} megapixels", *cells])
    return table(["cores a GPU", "picture", "GPU of 500/s", "GPU of 2,500/s", "GPU of 10,000/s"], rows)


def billion_table(record: Record, assumed: Assumptions, *, job: int = 10_000_000, shard: int = 10_000) -> str:
    """Return what a job of a billion pictures needs on 100 nodes of 8 GPUs, divided into jobs."""
    pictures = 1_000_000_000
    plan, rows = record["rows"]["plan"], record["rows"]["local"]["rows_bytes"][0]
    scenario = scenarios(record, assumed)[-1]
    per_s, _ = bounded(scenario, scenario.outcome(), assumed)
    hours = pictures / per_s / 3600
    nodes, gpus = 100, scenario.gpus
    deaths = nodes * hours / 24 / assumed.days_between_deaths
    engines = scenario.engines // nodes
    per_death_s = assumed.restart_s + engines * shard / 2 / (per_s / nodes)
    shards = pictures // shard
    gets, puts = pictures / 1000 * assumed.get_1000, shards / 1000 * assumed.put_1000
    summaries_s = job / shard * assumed.footer_ms / 1000 / assumed.readers
    content = [
        ["time", f"{hours:.1f} hours"],
        ["GPU-hours, and their price", f"{gpus * hours:,.0f}, ${gpus * hours * assumed.gpu_hour:,.0f}"],
        ["requests to the store", f"{pictures:.0e} GET (${gets:,.0f}), {number(shards)} PUT (${puts:,.2f})"],
        ["GET a second, and prefixes that they need", f"{number(per_s)}, {per_s / assumed.prefix_gets_per_s:,.0f}"],
        ["bytes read, and a second", f"{pictures * assumed.picture_kb / 1e9:,.0f} TB, "
         f"{per_s * assumed.picture_kb / 1e6:,.0f} GB/s"],
        ["rows written (detections of this benchmark)", f"{pictures * rows / 1e9:,.0f} GB"],
        ["one manifest: in the file, in memory", f"{plan['file_bytes'][0] * pictures / 1e9:,.0f} GB, "
         f"{plan['memory_bytes'][0] * pictures / 1e9:,.0f} GB"],
        ["jobs of ten million: how many, manifest, memory", f"{pictures // job}, "
         f"{plan['file_bytes'][0] * job / 1e9:.2f} GB, {plan['memory_bytes'][0] * job / 1e9:.2f} GB"],
        ["listing of one such job in a store, and its planning", f"{job * assumed.list_ms / 1e6:,.0f} s, "
         f"{job / plan['per_s'][0]:,.0f} s"],
        ["listing and planning of all, one after the other",
         f"{pictures * (assumed.list_ms / 1e6 + 1 / plan['per_s'][0]) / 3600:,.0f} hours"],
        [f"shards of {shard:,}: files in all, in a job", f"{shards:,}, {job // shard:,}"],
        ["size of one", f"{shard * rows / 1e6:.1f} MB"],
        ["reading a job's footers, at its resume and end", f"{summaries_s:.0f} s"],
        ["deaths of nodes to expect", f"{deaths:.2g}"],
        ["lost by each: half a shard of each engine, and its restart", f"{per_death_s:,.0f} s of a node"],
        ["lost in all", f"{100 * deaths * per_death_s / (nodes * hours * 3600):.4f} % of the work"],
    ]  # fmt: skip
    return table(["a billion pictures on 100 nodes of 8 GPUs", ""], content)


def loss_table(record: Record, assumed: Assumptions) -> str:
    """Return what a death costs for several sizes of shards, and how many files they make."""
    scenario = scenarios(record, assumed)[-1]
    per_s, _ = bounded(scenario, scenario.outcome(), assumed)
    node_per_s, engines = per_s / 100, scenario.engines // 100
    rows = []
    for shard in (1000, 10_000, 100_000):
        lost = engines * shard / 2
        rows.append(
            [
                f"{shard:,}",
                f"{1_000_000_000 // shard:,}",
                f"{lost:,.0f}",
                f"{lost / node_per_s:.2g}",
                f"{100 * 0.05 / 3600 * (lost / node_per_s + assumed.restart_s):.2g} %",
            ]
        )
    head = ["shard", "files of 10^9 pictures", "pictures lost with a node", "seconds of it", "lost, 5 % die an hour"]
    return table(head, rows)


def tables(record: Record, assumed: Assumptions) -> dict[str, str]:
    """Return all tables by name."""
    return {
        "measured": measured_table(record),
        "scenarios": scenario_table(record, assumed),
        "sensitivity": sensitivity_table(record, assumed),
        "billion": billion_table(record, assumed),
        "loss": loss_table(record, assumed),
    }


def main() -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, default=RESULTS)
    parser.add_argument("--markdown", action="store_true", help="print the tables with the marks around them")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/scaling.md")
    options = parser.parse_args()
    record = json.loads(options.record.read_text(encoding="utf-8"))
    made = tables(record, Assumptions())
    for name, text in made.items():
        print(f"<!-- {name}: made by benchmarks/simulate_batch.py -->\n" if options.markdown else name, text, sep="\n")
    if options.docs:
        put_tables(PAGE, made, maker="simulate_batch.py")
    predicted, measured = check(record)
    return 0 if abs(predicted / measured - 1) <= 0.1 else 1


if __name__ == "__main__":
    sys.exit(main())
