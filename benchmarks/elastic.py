"""Ablations of elastic modules, and the plot of accuracy over bytes.

python benchmarks/elastic.py ablation --data cifar10-jpeg:FILE --out results/elastic-ablation.jsonl
python benchmarks/elastic.py plot --out benchmarks/elastic.png results/elastic-cifar.jsonl

An ablation changes one setting of the method `driftwell`. What is in the file is not run again.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import msgspec

from driftwell.models.modular.decomposition import Structure
from driftwell.tools.bench.results_file import ResultsFile
from driftwell.tools.elastic.method import MakeMethod
from driftwell.tools.elastic.modules import ElasticModules, ModuleSettings
from driftwell.tools.elastic.plan import Plan, Shares
from driftwell.tools.elastic.program import run_bench
from driftwell.tools.elastic.results import ElasticResult

AS_IT_IS: Final = ModuleSettings()
SMALL: Final = (0.2, 0.5)
"""Shares of memory that sub-models are compared at."""


def offline(**changed: Any) -> ModuleSettings:
    """The settings with another offline stage."""
    return replace(AS_IT_IS, offline=msgspec.structs.replace(AS_IT_IS.offline, **changed))


def variants() -> dict[str, ModuleSettings]:
    """Settings by what is changed."""
    epochs = AS_IT_IS.offline.joint_epochs
    half = epochs // 2
    return {
        "as it is": AS_IT_IS,
        "ability-enhancing on": offline(joint_epochs=epochs - half, ability_epochs=half),
        "balance loss off": offline(balance=0.0),
        "no teacher": offline(distilled=0.0),
        "no sandwich": offline(sandwich=False),
        "no refining": replace(AS_IT_IS, refining=None),
        "greedy derivation": replace(AS_IT_IS, is_exact=False),
        "plain mean": replace(
            AS_IT_IS, fold=msgspec.structs.replace(AS_IT_IS.fold, by_importance=False)
        ),
        "no class shares": replace(AS_IT_IS, knows_classes=False),
        "8 modules": replace(AS_IT_IS, structure=Structure(modules=8, slices=4, active=4)),
        "32 modules": replace(AS_IT_IS, structure=Structure(modules=32, slices=16, active=16)),
    }


def ablate(options: argparse.Namespace) -> None:
    """Run every variant that is not in the file yet."""
    import torch

    torch.set_num_threads(1)
    problem, _, path = options.data.partition(":")
    chosen = options.only.split(",") if options.only else list(variants())
    methods: Mapping[str, MakeMethod] = {
        name: partial(ElasticModules, settings=variants()[name]) for name in chosen
    }
    plan = Plan(
        problem="digits" if problem == "digits" else "cifar",
        methods=tuple(methods),
        skews=tuple(int(skew) for skew in options.skew.split(",")),
        seeds=tuple(range(options.seeds)),
        steps=options.steps,
        path=Path(path) if path else None,
        limit=options.limit,
    )
    file = ResultsFile(options.out, ElasticResult)
    results = run_bench(plan, methods, lambda line: print(line, file=sys.stderr), out=file)
    if not options.only:
        for share in SMALL:
            named = {f"memory {share}": methods["as it is"]}
            small = replace(
                plan,
                methods=tuple(named),
                shares=Shares(memory=(share,), latency=(3.0,), download=(1.0,)),
            )
            results += run_bench(small, named, lambda line: print(line, file=sys.stderr), out=file)
    skews = sorted({result.skew for result in results})
    print(f"| variant | {' | '.join(f'skew {skew}' for skew in skews)} | parameters | MB |")
    print(f"| --- |{' ---: |' * (len(skews) + 2)}")
    for name in dict.fromkeys(result.method for result in results):
        own = [result for result in results if result.method == name]
        cells = [
            f"{fmean(one.accuracy_run for one in own if one.skew == skew):.2f}" for skew in skews
        ]
        parameters = fmean(cost.parameters for one in own for cost in one.costs)
        spent = fmean(one.bytes_up + one.bytes_down for one in own) / 1e6
        print(f"| {name} | {' | '.join(cells)} | {parameters:,.0f} | {spent:.1f} |")


def plot(options: argparse.Namespace) -> None:
    """A panel for each skew, a line for each method, a point after each step: means of seeds."""
    from matplotlib import pyplot as plt

    cells: dict[int, dict[str, list[ElasticResult]]] = defaultdict(lambda: defaultdict(list))
    for file in options.files:
        for line in file.read_bytes().splitlines():
            result = msgspec.json.decode(line, type=ElasticResult)
            cells[result.skew][result.method].append(result)
    figure, panels = plt.subplots(
        1, len(cells), figsize=(5 * len(cells), 4), layout="constrained", squeeze=False
    )
    for axes, skew in zip(panels[0], sorted(cells), strict=True):
        for method, results in cells[skew].items():
            spent = [list(accumulate(one.bytes_by_step)) for one in results]
            megabytes = [fmean(step) / 1e6 for step in zip(*spent, strict=True)]
            reached = [
                fmean(step) for step in zip(*(one.accuracy_by_step for one in results), strict=True)
            ]
            axes.plot(megabytes, reached, marker="o", label=method)
        axes.set(
            title=f"{skew} of 10 classes a device",
            xlabel="MB up and down, all devices",
            ylabel="accuracy, %",
            xscale="log",
        )
    panels[0][-1].legend()
    figure.savefig(options.out, dpi=120)


def main() -> None:
    """Do what the first argument says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("ablation")
    one.add_argument("--data", required=True, help="digits or cifar10-jpeg:FILE")
    one.add_argument("--limit", type=int)
    one.add_argument("--skew", default="2,5", help="commas between")
    one.add_argument("--steps", type=int, default=3)
    one.add_argument("--seeds", type=int, default=1)
    one.add_argument("--only", help="names of variants, commas between")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=ablate)
    other = commands.add_parser("plot")
    other.add_argument("files", type=Path, nargs="+")
    other.add_argument("--out", type=Path, required=True)
    other.set_defaults(run=plot)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
