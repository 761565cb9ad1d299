"""What is known of one camera while it runs, read from the lines its daemon writes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.tools.demo.scene import Camera

WINDOW: Final = 200
"""Images the accuracy of the moment is taken over."""


class Answer(msgspec.Struct, frozen=True):
    """One line of a predictions file; fields not needed here are left out."""

    index: int
    label: int
    verdict: str
    version: int


_decoder: Final = msgspec.json.Decoder(Answer)


class Tail:
    """Reads a file that grows, each complete line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[Answer]:
        """The answers since the last call; none while the file is not there."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                content = file.read()
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self._position += len(complete)
        return [_decoder.decode(line) for line in complete.splitlines()]


@dataclass(slots=True)
class Record:
    """One camera's run so far."""

    camera: Camera
    tail: Tail
    correct: NDArray[np.bool_] = field(init=False)
    """Of the images seen so far, in order."""
    uploads: int = 0
    version: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def __post_init__(self) -> None:
        self.correct = np.zeros(0, np.bool_)

    @property
    def seen(self) -> int:
        """Images answered."""
        return len(self.correct)

    def update(self) -> None:
        """Take in what the daemon has written since."""
        answers = self.tail.read()
        if not answers:
            return
        index = [answer.index for answer in answers]
        right = np.array([answer.label for answer in answers]) == self.camera.labels[index]
        self.correct = np.concatenate([self.correct, right])
        self.uploads += sum(answer.verdict == "selected" for answer in answers)
        self.version = answers[-1].version

    def recent(self) -> tuple[float, float] | None:
        """Accuracy over the last images, adapted and unaided; None before the first."""
        if not self.seen:
            return None
        window = slice(max(0, self.seen - WINDOW), self.seen)
        return float(self.correct[window].mean()), float(self.camera.unaided[window].mean())
