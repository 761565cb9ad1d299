"""What a device does for adaptation, beside the forward pass it does anyway.

python benchmarks/edge_cost.py --edge bundles/edge --stream ../shared/data/cifar10c/fog.npz

The two are timed in turn, batch by batch, in one process on one thread; the median of the ratios
counts. `infer` is everything but the upload: own statistics, signature, drift, bank, filter and
choice. `upload` chooses, codes JPEG images and packs the message of all 64 images, which a
budget below 100 % makes fewer. Early and late batches are compared, too: nothing may grow.
"""

import argparse
import time
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from driftwell.cloud.settings import edge_document
from driftwell.edge.assembly import build_node
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sources import read_stream
from driftwell.edge.uploads import UploadBudget, origin_of
from driftwell.models.bundle import Bundle, open_bundle

BATCH = 64
WARM_UP = 5


def measure(edge: Bundle, stream: Path, rounds: int) -> NDArray[np.float64]:
    """Seconds (batches, 3): the plain forward pass, `infer`, `upload`."""
    told = {"bundle": str(edge.path), "source": "npz:x", "device": "cam-1"}
    document = {**edge_document("driftwell"), **told}
    settings = msgspec.convert(document, EdgeSettings, dec_hook=lambda _, value: Path(value))
    shape, classes = edge.manifest.input.shape, len(edge.manifest.classes)
    images, _ = read_stream(stream, shape=shape, classes=classes)
    plain = edge.network()
    node = build_node(settings, edge, lambda: 0.0)
    budget, origin = UploadBudget(settings.budget), origin_of(settings, model=edge.digest)
    index = np.arange(BATCH, dtype=np.uint64)
    times = []
    for start in range(0, (len(images) // BATCH) * BATCH * rounds, BATCH):
        batch = np.roll(images, -start, axis=0)[:BATCH]
        began = time.perf_counter()
        plain.logits(batch)
        forward = time.perf_counter()
        predictions = node.infer(batch, rate=budget.rate)
        inferred = time.perf_counter()
        selection = predictions.selection(batch, index)
        budget.prepare(selection, origin, seen=BATCH, clock_ns=start)
        times.append((forward - began, inferred - forward, time.perf_counter() - inferred))
    return np.array(times[WARM_UP:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--edge", type=Path, required=True)
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=4, help="times through the stream")
    options = parser.parse_args()
    torch.set_num_threads(1)
    times = measure(open_bundle(options.edge), options.stream, options.rounds)
    forward, infer, upload = np.median(times, axis=0) * 1e3
    ratio = np.median(times[:, 1] / times[:, 0])
    whole = np.median((times[:, 1] + times[:, 2]) / times[:, 0])
    tenth = max(1, len(times) // 10)
    early, late = (float(np.median(part[:, 1:].sum(axis=1) / part[:, 0]))
                   for part in (times[:tenth], times[-tenth:]))  # fmt: skip
    print(
        f"forward {forward:.1f} ms, infer {infer:.1f} ms, upload {upload:.1f} ms a batch of {BATCH}"
    )
    print(f"infer / forward {ratio:.3f}; with every image uploaded {whole:.3f}")
    print(f"first tenth {early:.3f}, last tenth {late:.3f} of {len(times)} batches")


if __name__ == "__main__":
    main()
