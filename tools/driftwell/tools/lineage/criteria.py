"""Pure. What makes a version good: the forms of `--test`, and the measuring by them."""

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.errors import SettingsError
from driftwell.tools.lineage.comparison import Answers, accuracy_percent

FORMS: Final = "accuracy>=PERCENT, drop<=POINTS, agreement>=PERCENT or command:PROGRAM ARGUMENTS"
_BOUND: Final = re.compile(r"(accuracy|drop|agreement)\s*(>=|<=)\s*(\d+(?:\.\d+)?)")


T = TypeVar("T")


class Measure(StrEnum):
    """What is measured."""

    ACCURACY = "accuracy"
    """Percent of labelled images answered rightly."""
    DROP = "drop"
    """Points of accuracy below the good version's."""
    AGREEMENT = "agreement"
    """Percent of images answered as by the good version."""
    COMMAND = "command"
    """The exit code of a program."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A measure and its bound."""

    measure: Measure
    bound: float = 0.0
    """Percent, or points of accuracy."""
    command: tuple[str, ...] = ()

    @property
    def needs_labels(self) -> bool:
        """Whether it looks at labels."""
        return self.measure in {Measure.ACCURACY, Measure.DROP}

    @property
    def needs_good(self) -> bool:
        """Whether it compares with the good version's answers."""
        return self.measure in {Measure.DROP, Measure.AGREEMENT}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one version under a test."""

    is_good: bool
    said: str
    """What was measured, in a few words."""


def parse_criterion(text: str) -> Criterion:
    """Read what `--test` was given.

    Raises:
        SettingsError: if it is none of the forms.
    """
    kind, _, rest = text.partition(":")
    if kind == "command":
        return Criterion(Measure.COMMAND, command=_parse_command(rest))
    match = _BOUND.fullmatch(text.strip())
    if match is None:
        raise _unknown(text)
    measure, bound = Measure(match[1]), float(match[3])
    wanted = "<=" if measure is Measure.DROP else ">="
    if match[2] != wanted or bound > 100:  # noqa: PLR2004
        raise _unknown(text)
    return Criterion(measure, bound)


def measure_answers(
    criterion: Criterion, answers: Answers, labels: NDArray[np.int64] | None, good: Answers | None
) -> Verdict:
    """Judge one version's answers.

    Args:
        criterion: Not a command.
        answers: Of the version, on N images.
        labels: (N,), below 0 where the class is not known; None if it needs none.
        good: Of the good version, on the same images; None if it needs none.

    Raises:
        ValueError: if what the criterion needs is not there.
    """
    if criterion.measure is Measure.AGREEMENT:
        value = 100 * float(np.mean(answers.prediction == _there(good).prediction))
        return Verdict(value >= criterion.bound, f"agreement {value:.1f} %")
    value = accuracy_percent(answers, _there(labels))
    if criterion.measure is Measure.DROP:
        drop = accuracy_percent(_there(good), _there(labels)) - value
        return Verdict(drop <= criterion.bound, f"accuracy {value:.1f} %, drop {drop:.1f} points")
    return Verdict(value >= criterion.bound, f"accuracy {value:.1f} %")


def _there(value: T | None) -> T:
    if value is None:
        raise ValueError("the test needs more than it was given")
    return value


def _parse_command(text: str) -> tuple[str, ...]:
    try:
        command = tuple(shlex.split(text))
    except ValueError as error:
        raise SettingsError(f"--test command:{text} cannot be read: {error}") from error
    if not command:
        raise SettingsError(f"--test command: names no program; use {FORMS}")
    return command


def _unknown(text: str) -> SettingsError:
    return SettingsError(
        f"--test {text!r} is not understood; use {FORMS} (PERCENT and POINTS from 0 to 100)"
    )
