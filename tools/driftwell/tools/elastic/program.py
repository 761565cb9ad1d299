"""The elastic bench itself: every run of a plan, one after the other."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Final

import msgspec

from driftwell.cloud.code_identity import software_name
from driftwell.messages.digest import digest_arrays, digest_bytes
from driftwell.messages.errors import SettingsError
from driftwell.models.footprint import Footprint, measure_footprint
from driftwell.tools.bench.results_file import ResultsFile
from driftwell.tools.elastic.method import MakeMethod, Method, Pretrained, pretrain, untrained
from driftwell.tools.elastic.plan import Plan, Task, tasks_of
from driftwell.tools.elastic.problems import PROBLEMS, Problem, read_samples
from driftwell.tools.elastic.results import DeviceCost, ElasticResult
from driftwell.tools.elastic.samples import Samples
from driftwell.tools.elastic.training import accuracy
from driftwell.tools.elastic.weights import state_of, weight_bytes
from driftwell.tools.elastic.world import World, make_world

RULES: Final = 2
"""Count up when a world or a baseline changes: results of before are not taken again."""

Tell = Callable[[str], None]
"""Takes one line of progress, without its end."""


def run_bench(
    plan: Plan,
    methods: Mapping[str, MakeMethod],
    report: Tell,
    *,
    out: ResultsFile[ElasticResult] | None = None,
) -> list[ElasticResult]:
    """Make every run of a plan that is not yet in the file; the results of all, in order.

    How many threads torch has is the caller's choice.

    Args:
        plan: What to measure.
        methods: Those that the plan may name.
        report: Gets a line for every run when it begins, and one when it ends.
        out: Takes each result as it comes; None: no file.

    Raises:
        SettingsError: if the plan names what is not there, or asks for what the data cannot give.
        SourceError: if the data cannot be read.
    """
    _require(plan.problem, PROBLEMS, "problem")
    for name in plan.methods:
        _require(name, methods, "method")
    problem = PROBLEMS[plan.problem]
    bench = _Bench(plan, problem, read_samples(problem, plan.path, plan.limit))
    tasks = tasks_of(plan)
    results = []
    for number, task in enumerate(tasks, start=1):
        line = f"[{number}/{len(tasks)}] {problem.name} skew {task.skew}: {task.method}"
        line += f" seed {task.seed} …"
        key = bench.key_of(task)
        if out is not None and key in out.known:
            result = out.known[key]
            report(f"{line} {result.accuracy_run:.2f} % (was there)")
        else:
            report(line)
            result = msgspec.structs.replace(bench.run(task, methods[task.method]), key=key)
            if out is not None:
                out.add(result)
            report(f"{line} {result.accuracy_run:.2f} % ({result.spent_s:.1f} s)")
        results.append(result)
    return results


class _Bench:
    """Keeps what several runs share: a seed's pre-trained network, and a skew's world."""

    def __init__(self, plan: Plan, problem: Problem, samples: Samples) -> None:
        self._plan = plan
        self._problem = problem
        self._samples = samples
        self._digest = digest_arrays({"images": samples.images, "labels": samples.labels})
        self._full: Footprint | None = None
        self._world: tuple[tuple[int, int], World] | None = None
        self._pretrained: tuple[int, Pretrained] | None = None

    def key_of(self, task: Task) -> str:
        """16 hexadecimal digits; the same for the same run, whatever else the plan asks for."""
        plan = self._plan
        known = {
            "rules": RULES, "problem": self._problem.name, "samples": self._digest,
            "devices": plan.devices, "steps": plan.steps,
            "shares": asdict(plan.shares or self._problem.shares), **asdict(task),
        }  # fmt: skip
        return digest_bytes(msgspec.json.encode(known, order="deterministic"))[:16]

    def run(self, task: Task, make: MakeMethod) -> ElasticResult:
        """Make one run."""
        world = self._world_of(task)
        pretrained = self._pretrained_of(task.seed, world.proxy)
        started_s = time.monotonic()
        method = make(world, task.seed, pretrained)
        method.prepare()
        by_step, ups, downs = [], [], []
        for number in range(self._plan.steps):
            traffic = method.step(number)
            ups.append(traffic.up)
            downs.append(traffic.down)
            by_step.append(mean_accuracy(method, world))
        costs = costs_of(method, world)
        return ElasticResult(
            problem=self._problem.name,
            method=task.method,
            skew=task.skew,
            seed=task.seed,
            devices=self._plan.devices,
            steps=self._plan.steps,
            accuracy_one_step=by_step[0],
            accuracy_run=fmean(by_step),
            accuracy_by_step=tuple(by_step),
            bytes_up=sum(ups),
            bytes_down=sum(downs),
            bytes_by_step=tuple(up + down for up, down in zip(ups, downs, strict=True)),
            budget_violations=sum(one.is_over_memory or one.is_over_latency for one in costs),
            memory_violations=sum(one.is_over_memory for one in costs),
            latency_violations=sum(one.is_over_latency for one in costs),
            costs=costs,
            software=software_name(),
            spent_s=time.monotonic() - started_s,
        )

    def _world_of(self, task: Task) -> World:
        wanted = (task.seed, task.skew)
        if self._world is None or self._world[0] != wanted:
            world = make_world(
                self._problem,
                self._samples,
                devices=self._plan.devices,
                skew=task.skew,
                steps=self._plan.steps,
                seed=task.seed,
                full=self._measured(),
                download_bytes=weight_bytes(state_of(untrained(self._problem, 1.0, seed=0))),
                shares=self._plan.shares or self._problem.shares,
            )
            self._world = (wanted, world)
        return self._world[1]

    def _measured(self) -> Footprint:
        # Once: the methods that run the full network are held against this very measurement.
        if self._full is None:
            full = untrained(self._problem, 1.0, seed=0)
            self._full = measure_footprint(full, self._problem.shape)
        return self._full

    def _pretrained_of(self, seed: int, proxy: Samples) -> Pretrained:
        # The proxy data of a seed are the same with every skew.
        if self._pretrained is None or self._pretrained[0] != seed:
            self._pretrained = (seed, pretrain(self._problem, proxy, seed=seed))
        return self._pretrained[1]


def mean_accuracy(method: Method, world: World) -> float:
    """Percent of a device's test images that are answered rightly, as a mean over devices."""
    return fmean(
        accuracy(method.answer(place, device.test.images), device.test.labels)
        for place, device in enumerate(world.devices)
    )


def costs_of(method: Method, world: World) -> tuple[DeviceCost, ...]:
    """What each device's network costs now, beside its budget."""
    costs = []
    for place, device in enumerate(world.devices):
        footprint = method.footprint(place)
        cost = DeviceCost(
            parameters=footprint.parameters,
            peak_bytes=footprint.peak_bytes,
            latency_ms=footprint.latency_ms,
            memory_budget_bytes=device.budget.memory_bytes,
            latency_budget_ms=device.budget.latency_ms,
            download_budget_bytes=device.budget.download_bytes,
        )
        costs.append(cost)
    return tuple(costs)


def _require(name: str, known: Mapping[str, object], what: str) -> None:
    if name not in known:
        raise SettingsError(f"{what} {name!r} is not known; use one of {', '.join(known)}")
