"""The search for the version that hurt: which versions are tried, and how each is judged."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from driftwell.cloud.publisher import reverted_to
from driftwell.messages.errors import SettingsError
from driftwell.messages.head import Manifest
from driftwell.models.bundle import Bundle
from driftwell.tools.lineage.ancestry import Ancestry, ancestry
from driftwell.tools.lineage.answering import Answerer, State, state_of, version_as_bundle
from driftwell.tools.lineage.bisection import Found, bisect
from driftwell.tools.lineage.comparison import Answers
from driftwell.tools.lineage.criteria import Criterion, Measure, Verdict, measure_answers
from driftwell.tools.lineage.probe import Probe
from driftwell.tools.lineage.versions import Versions, spans

LAST_BAD_CODE: Final = 124
"""Exit codes from 1 to this one say bad, as for `git bisect run`; 0 says good."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """The versions one of which is the culprit."""

    good: int
    """Taken for good; 0 is the source state."""
    chain: tuple[int, ...]
    """After it, oldest first, each made from the one before."""
    is_whole: bool
    """Whether the first was made from `good`; else versions between are not kept any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a search ended."""

    found: Found | None
    """None: the last suspect passes the test."""
    evaluations: int
    """Versions tried; the good one, where it is measured to compare with, is not counted."""


class Trial:
    """Judges versions of one bundle by one criterion."""

    def __init__(self, bundle: Bundle, criterion: Criterion, probe: Probe | None) -> None:
        """`probe` may be None only if the criterion is a command."""
        self._bundle = bundle
        self._criterion = criterion
        self._probe = probe
        self._answerer = Answerer(bundle.network())
        self._good: Answers | None = None

    @property
    def needs_good(self) -> bool:
        """Whether `compare_with` comes before `judge`."""
        return self._criterion.needs_good

    def compare_with(self, good: State) -> None:
        """Measure the version that the others are compared with."""
        self._good = self._answers(good)

    def judge(self, state: State) -> Verdict:
        """Judge the version with this adaptable state.

        Raises:
            SettingsError: if the program cannot be run, or says neither good nor bad.
        """
        if self._criterion.measure is Measure.COMMAND:
            return self._run(state)
        labels = self._probe.labels if self._probe else None
        return measure_answers(self._criterion, self._answers(state), labels, self._good)

    def _answers(self, state: State) -> Answers:
        if self._probe is None:
            raise ValueError("only a command needs no probe")
        return self._answerer.answers(state, self._probe.images)

    def _run(self, state: State) -> Verdict:
        program = self._criterion.command[0]
        with version_as_bundle(self._bundle, state) as folder:
            try:
                # Its output goes where logs go: standard output is for our results.
                code = subprocess.run(
                    [*self._criterion.command, str(folder)], check=False, stdout=2
                ).returncode
            except OSError as error:
                raise SettingsError(f"--test: {program} cannot be run: {error}") from error
        if not 0 <= code <= LAST_BAD_CODE:
            raise SettingsError(
                f"--test: {program} ended with {code}; 0 says good, 1 to {LAST_BAD_CODE} bad, and "
                "anything else is taken for a mistake in the program"
            )
        return Verdict(code == 0, f"exit code {code}")


def suspects(versions: Versions, cohort: str, *, good: int, bad: int | None) -> Suspects:
    """The versions between a good and a bad one (None: the newest).

    Raises:
        SettingsError: if one of them is not there, or the bad one was not made from the good.
    """
    manifests = {
        one.manifest.version: _without_delta(one.manifest) for one in versions.read(cohort)
    }
    newest = max(manifests, default=0)
    for number in {good, newest if bad is None else bad} - {0}:
        versions.find(cohort, number)
    way = ancestry(manifests, newest if bad is None else bad)
    good = _original(manifests, good)
    if good == 0:
        return Suspects(0, way.chain, way.is_whole)
    if good not in way.chain:
        raise SettingsError(
            f"version {newest if bad is None else bad} was not made from version {good}, but "
            f"from {_names(way)}; choose --good among these"
        )
    return Suspects(good, way.chain[way.chain.index(good) + 1 :], is_whole=True)


def hunt(
    versions: Versions,
    cohort: str,
    suspected: Suspects,
    *,
    trial: Trial,
    bundle: Bundle,
    say: Callable[[str], None],
) -> Outcome:
    """Find the first bad version, in at most 1 + log2 of the suspects evaluations.

    Args:
        versions: Where the suspects' states are.
        cohort: Whose.
        suspected: What to search.
        trial: Judges.
        bundle: What the versions are of.
        say: Told of each evaluation as soon as it is done.

    Raises:
        DriftwellError: if a version or the test is not usable.
    """
    evaluations = 0

    def state(number: int) -> State:
        return state_of(bundle, versions.find(cohort, number).manifest if number else None)

    def is_good(number: int) -> bool:
        nonlocal evaluations
        evaluations += 1
        verdict = trial.judge(state(number))
        word = "good" if verdict.is_good else "bad"
        say(f"{evaluations}. version {number}: {verdict.said}: {word}")
        return verdict.is_good

    if trial.needs_good and suspected.chain:
        trial.compare_with(state(suspected.good))
    return Outcome(bisect(suspected.chain, is_good), evaluations)


def _original(manifests: dict[int, Manifest], number: int) -> int:
    """What a revert went back to; any other version is its own."""
    while number in manifests:
        target = reverted_to(manifests[number].provenance)
        if target is None:
            break
        number = target
    return number


def _without_delta(manifest: Manifest) -> Manifest:
    # A thousand deltas may be a hundred megabytes, and the chain is in the rest.
    empty = msgspec.structs.replace(manifest.delta, entries=(), values=b"")
    return msgspec.structs.replace(manifest, delta=empty)


def _names(way: Ancestry) -> str:
    return spans([*([0] if way.is_whole else []), *way.chain]) or "none that is kept"
