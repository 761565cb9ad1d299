"""How well the gate tells harmful candidates from helpful ones, on CIFAR-10-C.

    python benchmarks/gate.py --edge bundles/edge --foundation bundles/foundation \\
        --stream ../shared/data/cifar10c/{gaussian_noise,glass_blur,contrast,elastic_transform}.npz

In each cell (stream, seed) the student learns a stream as the cloud does, and makes a candidate
every three batches. A candidate is *helpful* if it is more accurate than its parent on 512 other
images of the domain, by their labels, which the gate does not see. From the last good version,
six harmful ones are made: a learning rate 20 times too high; targets that fell together
to few classes; uploads half as bright, with red and blue exchanged (wrong preprocessing); the
version of another stream (a stale base); uploads of three classes only (a label shift); targets
shifted by one class. One counts as *harmful* if it loses at least one point.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from driftwell.cloud.gate import GateVerdict, judge_candidate
from driftwell.cloud.settings import MethodSettings, StudentSettings, method_document
from driftwell.cloud.student import Student
from driftwell.cloud.teacher import Probabilities, Teacher, answer_together
from driftwell.edge.sources import read_stream
from driftwell.messages.delta import apply_delta, encode_delta
from driftwell.messages.images import Pixels
from driftwell.models.augmentation import augment
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.models.statistics import StatisticsSettings

BATCH = 64
ROUNDS = 5
"""Candidates of a cell's own stream."""
LEARNED = 3 * BATCH
"""Uploads between two candidates."""
JUDGED = 512
"""Other images by which the truth is known."""
STEPS = 60
HARM_POINTS = 1.0
CHOSEN = -0.75
"""The tolerance of `driftwell.toml`, standard errors."""

KINDS = (
    "learning-rate", "collapsed", "preprocessing", "stale-base", "label-shift", "shifted-labels",
)  # fmt: skip

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Judged:
    """One candidate."""

    stream: str
    seed: int
    kind: str
    gain: float
    """Points of accuracy on other images, candidate less parent."""
    passes: bool
    reason: str
    score: float
    """Loss change in standard errors; what the tolerance is compared with."""


class Cell:
    """One stream in one order."""

    def __init__(
        self, edge: Bundle, foundation: Bundle, stream: Path, seed: int, *, bfloat16: bool
    ) -> None:
        method = msgspec.convert(method_document("driftwell"), MethodSettings)
        if method.distiller_tables is None:
            raise SystemExit("the method driftwell has not the distiller's tables")
        teacher, student, self.versions, self.gate = method.distiller_tables
        teacher = msgspec.structs.replace(teacher, bfloat16=bfloat16)
        self.settings = msgspec.structs.replace(student, bfloat16=bfloat16)
        images, labels = read_stream(
            stream, shape=edge.manifest.input.shape, classes=len(edge.manifest.classes)
        )
        if labels is None:
            raise SystemExit(f"{stream} has no labels")
        order = np.random.default_rng(seed).permutation(len(images))
        self.images, self.labels = images[order], labels[order]
        self.name, self.seed, self.edge = stream.stem, seed, edge
        self.generator = np.random.default_rng([seed, 1])
        self.teacher = Teacher(foundation, teacher)
        self.network = edge.network(own_statistics=StatisticsSettings())
        uploads = self.images[: LEARNED * (ROUNDS + 1) + BATCH]
        self.targets = self.teacher.targets(uploads, uploads[:0])

    def accuracy(self, arrays: Arrays) -> float:
        """Percent, on images that come after all uploads."""
        self.network.install(arrays)
        images, labels = self.images[-JUDGED:], self.labels[-JUDGED:]
        answers = [
            self.network.logits(images[start : start + BATCH]).argmax(axis=1)
            for start in range(0, JUDGED, BATCH)
        ]
        return 100 * float(np.mean(np.concatenate(answers) == labels))

    def learn(
        self,
        parent: Arrays,
        learning: Arrays,
        images: Pixels,
        targets: Probabilities,
        *,
        settings: StudentSettings | None = None,
    ) -> tuple[Arrays, Arrays]:
        """A candidate as it travels, and the state the student goes on from."""
        settings = settings or self.settings
        student = Student(
            self.edge,
            learning_rate=settings.learning_rate,
            average=settings.average,
            moves=settings.moves,
            bfloat16=settings.bfloat16,
        )
        student.begin(parent, learning)
        for _ in range(STEPS):
            chosen = self.generator.permutation(len(images))[: settings.batch]
            views = augment(
                student.prepare(images[chosen]),
                self.generator,
                mirrors=settings.mirrors,
                shift=settings.shift,
            )
            student.learn(views, torch.from_numpy(targets[chosen]))
        candidate = student.averaged(parent, images[-settings.statistics_images :], 128)
        delta = encode_delta(self.edge.source, candidate, limit_bytes=self.versions.limit_bytes)
        return apply_delta(self.edge.source, delta), student.end()

    def judge(self, kind: str, candidate: Arrays, parent: Arrays, held_out: slice) -> Judged:
        """Ask the gate, and the labels."""
        answers = []
        for state in (candidate, parent):
            self.network.install(state)
            answers.append(answer_together(self.network, self.images[held_out]))
        verdict = judge_candidate(
            self.gate, teacher=self.targets[held_out], candidate=answers[0], parent=answers[1]
        )
        gain = self.accuracy(candidate) - self.accuracy(parent)
        return Judged(
            self.name, self.seed, kind, round(gain, 3), verdict.passes, verdict.reason,
            _score(verdict),
        )  # fmt: skip

    def run(self, stale: Arrays | None) -> tuple[list[Judged], Arrays]:
        """All candidates of the cell, and its last good version."""
        judged: list[Judged] = []
        parent, learning = dict(self.edge.source), {}
        for number in range(1, ROUNDS + 1):
            known = slice(0, number * LEARNED)
            held_out = slice(number * LEARNED, number * LEARNED + BATCH)
            candidate, learning = self.learn(
                parent, learning, self.images[known], self.targets[known]
            )
            judged.append(self.judge("learned", candidate, parent, held_out))
            if judged[-1].passes:
                parent = candidate
        held_out = slice(ROUNDS * LEARNED, ROUNDS * LEARNED + BATCH)
        images, targets = self.images[: ROUNDS * LEARNED], self.targets[: ROUNDS * LEARNED]
        for kind, candidate in self._harmful(parent, learning, images, targets, stale).items():
            judged.append(self.judge(kind, candidate, parent, held_out))
        return judged, parent

    def _harmful(
        self,
        parent: Arrays,
        learning: Arrays,
        images: Pixels,
        targets: Probabilities,
        stale: Arrays | None,
    ) -> dict[str, Arrays]:
        fast = msgspec.structs.replace(
            self.settings, learning_rate=20 * self.settings.learning_rate
        )
        few = targets.copy()
        few[:, 2:] *= 0.02
        few /= few.sum(axis=1, keepdims=True)
        made = {
            "learning-rate": self.learn(parent, learning, images, targets, settings=fast)[0],
            "collapsed": self.learn(parent, learning, images, few)[0],
            "preprocessing": self.learn(
                parent, learning, np.ascontiguousarray(images[..., ::-1] // 2), targets
            )[0],
            "label-shift": self._of_three_classes(parent, learning, images, targets),
            "shifted-labels": self.learn(parent, learning, images, np.roll(targets, 1, axis=1))[0],
        }
        return made if stale is None else {**made, "stale-base": stale}

    def _of_three_classes(
        self, parent: Arrays, learning: Arrays, images: Pixels, targets: Probabilities
    ) -> Arrays:
        is_of = targets.argmax(axis=1) < 3  # noqa: PLR2004
        return self.learn(parent, learning, images[is_of], targets[is_of])[0]


def _score(verdict: GateVerdict) -> float:
    if verdict.reason in ("collapse", "not-finite"):
        return 1e9
    return verdict.loss_change_nats / max(verdict.standard_error_nats, 1e-9)


def report(judged: list[Judged]) -> str:
    """The table."""
    helpful = [one for one in judged if one.kind == "learned" and one.gain > 0]
    rows = [("helpful", helpful, sum(one.score <= CHOSEN for one in helpful), "passed")]
    for kind in KINDS:
        harmful = [one for one in judged if one.kind == kind and one.gain <= -HARM_POINTS]
        rows.append((kind, harmful, sum(one.score > CHOSEN for one in harmful), "blocked"))
    lines = ["| candidates | counted | mean gain, points | right |", "| --- | ---: | ---: | ---: |"]
    for name, ones, right, word in rows:
        gain = float(np.mean([one.gain for one in ones])) if ones else float("nan")
        lines.append(f"| {name} | {len(ones)} | {gain:+.1f} | {right} {word} |")
    harmful = [one for one in judged if one.kind != "learned" and one.gain <= -HARM_POINTS]
    blocked = sum(one.score > CHOSEN for one in harmful)
    lines.append(f"| all harmful | {len(harmful)} | | {blocked} blocked |")
    return "\n".join(lines)


def plot(judged: list[Judged], out: Path) -> None:
    """Share of harmful ones blocked over share of helpful ones blocked, by tolerance."""
    from matplotlib import pyplot as plt

    helpful = np.array([one.score for one in judged if one.kind == "learned" and one.gain > 0])
    harmful = np.array(
        [one.score for one in judged if one.kind != "learned" and one.gain <= -HARM_POINTS]
    )
    tolerances = np.linspace(-6, 12, 181)
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    axes.plot(
        [100 * float(np.mean(helpful > t)) for t in tolerances],
        [100 * float(np.mean(harmful > t)) for t in tolerances],
    )
    axes.plot(100 * float(np.mean(helpful > CHOSEN)), 100 * float(np.mean(harmful > CHOSEN)), "o")
    axes.set(xlabel="helpful candidates blocked, %", ylabel="harmful candidates blocked, %",
             title=f"The gate, by its tolerance (dot: {CHOSEN} standard errors)")  # fmt: skip
    figure.savefig(out, dpi=120)


def main() -> None:
    """Run every cell; judged candidates are appended to OUT.jsonl, the table printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--edge", type=Path, required=True)
    parser.add_argument("--foundation", type=Path, required=True)
    parser.add_argument("--stream", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("gate.jsonl"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--bfloat16", action="store_true", help="learn in bfloat16")
    parser.add_argument("--again", action="store_true", help="only tell what --out holds")
    options = parser.parse_args()
    if options.again:
        lines = options.out.read_text(encoding="utf-8").splitlines()
        tell([Judged(**json.loads(line)) for line in lines], options.plot)
        return
    torch.set_num_threads(1)
    edge, foundation = open_bundle(options.edge), open_bundle(options.foundation)
    judged: list[Judged] = []
    stale: Arrays | None = None
    with options.out.open("w", encoding="utf-8") as out:
        for seed in range(options.seeds):
            for stream in options.stream:
                found, stale = Cell(edge, foundation, stream, seed, bfloat16=options.bfloat16).run(
                    stale
                )
                judged += found
                out.writelines(json.dumps(asdict(one)) + "\n" for one in found)
                out.flush()
                sys.stderr.write(f"{stream.stem} seed {seed}: {len(judged)} candidates\n")
    tell(judged, options.plot)


def tell(judged: list[Judged], out: Path | None) -> None:
    """Print the table, and plot if asked to."""
    sys.stdout.write(report(judged) + "\n")
    if out is not None:
        plot(judged, out)


if __name__ == "__main__":
    main()
