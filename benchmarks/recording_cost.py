"""What recording costs a running pipeline: the same run with and without, by turns.

python benchmarks/recording_cost.py --edge BUNDLE --foundation BUNDLE --stream FILE.npz

Device, cloud and recorder are processes at a real broker. Two cases. `device`: a filter that
selects nothing, so that the device does nothing but answer, as fast as it can, and
whatever the recording of its raw stream costs shows. `loop`: with uploads and training.
"""

import argparse
import asyncio
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from driftwell.tools.bench.loop import run_stream
from driftwell.tools.bench.plan import Plan
from driftwell.tools.cli.logs import configure_logs

CASES = {"device": ("filter.e_min=0.0", "filter.e_max=0.0001"), "loop": ()}


def seconds(plan: Plan, folder: Path) -> tuple[float, float]:
    """From the stream's first batch until all is settled, and one batch on the device, seconds."""
    summary = asyncio.run(run_stream(plan, "cema", plan.streams[0], folder)).summary
    return summary.stream_s, (summary.forward_ms + summary.other_ms) / 1e3


def main() -> None:
    """Print one line a case: with over without, of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("edge", "foundation", "stream"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    configure_logs("warning", as_json=False)
    torch.set_num_threads(1)
    for case, assignments in CASES.items():
        plan = Plan(
            edge=given.edge, foundation=given.foundation, streams=(given.stream,),
            methods=("cema",), transport="mqtt", broker="amqtt", pace="max", protocol="reset",
            batch=64, seed=0, threads=1, edge_assignments=assignments,
        )  # fmt: skip
        took: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(given.runs if case == "device" else 3):
            for is_recorded in (False, True):
                with tempfile.TemporaryDirectory() as scratch:
                    record = Path(scratch) / "out.mcap" if is_recorded else None
                    folder = Path(scratch) / "run"
                    folder.mkdir()
                    took[is_recorded].append(seconds(replace(plan, record=record), folder))
        for number, what in enumerate(("the stream", "a batch on the device")):
            without, recorded = (
                statistics.median(one[number] for one in took[flag]) for flag in (False, True)
            )
            print(
                f"{case}, {what}: {without:.4f} s without, {recorded:.4f} s recorded, "
                f"ratio {recorded / without:.3f}"
            )


if __name__ == "__main__":
    main()
