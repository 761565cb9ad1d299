"""`driftwell whatif` from the recording to the report; files and processes are its own."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch
from rich.console import Console

from driftwell.cloud.assembly import make_learner
from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import open_bundle
from driftwell.tools.virtual.processes import Failure, run_side_by_side
from driftwell.tools.whatif.curves import Curves
from driftwell.tools.whatif.progress import Lines
from driftwell.tools.whatif.results import Outcome, Report, Result, is_reproduced, mark_front
from driftwell.tools.whatif.streams import Choice
from driftwell.tools.whatif.survey import HOW_TO_RECORD, Survey, survey_recording
from driftwell.tools.whatif.variant_run import Job, Progress, run_variant
from driftwell.tools.whatif.variants import Variant


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a recording."""

    choice: Choice
    edge: Path
    foundation: Path
    variants: Sequence[Variant]
    jobs: int


def answer(question: Question, console: Console) -> tuple[Report, list[Outcome]]:
    """Run every variant; the live run comes first, then they follow in their order.

    Args:
        question: What to run.
        console: For the progress of each.

    Raises:
        DriftwellError: what is wrong with the recording, a bundle or a variant.
    """
    survey = survey_recording(question.choice)
    _check_variants(question, survey)
    foundation = _check_bundles(question, survey)
    with tempfile.TemporaryDirectory(prefix="driftwell-whatif-") as folder:
        jobs = [
            _job(question, survey, variant, Path(folder) / str(place))
            for place, variant in enumerate(question.variants)
        ]
        with Lines(console, [v.name for v in question.variants], survey.messages) as lines:
            answers = run_side_by_side(
                run_in_process, jobs, at_once=max(1, question.jobs), watcher=lines
            )
    outcomes = [survey.live]
    for variant, one in zip(question.variants, answers, strict=True):
        if isinstance(one, Failure):
            failed = Result(variant=variant.name, error=one.error)
            outcomes.append(Outcome(failed, Curves()))
        else:
            outcomes.append(one)
    outcomes = mark_front(outcomes)
    results = tuple(outcome.result for outcome in outcomes)
    report = Report(
        recording=question.choice.path.name,
        model=survey.model,
        reproduced=is_reproduced(results) if question.choice.devices is None else None,
        other_foundation=survey.settings.foundation not in {None, foundation},
        results=results,
    )
    return report, outcomes


def run_in_process(job: Job, progress: Progress) -> Outcome:
    """Run a variant in a process of its own: one thread, and no log in the way of the lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    torch.set_num_threads(1)
    return run_variant(job, progress)


def _check_variants(question: Question, survey: Survey) -> None:
    if survey.cohorts:
        return
    path = question.choice.path
    if question.choice.limit is not None:
        raise SettingsError(f"--limit counts images of raw streams, and {path} holds none")
    for variant in question.variants:
        if variant.edge or variant.baseline:
            raise SettingsError(
                f"variant {variant.name!r} needs every image the devices saw, and {path} holds "
                f"only their uploads, so that cloud settings alone can vary; {HOW_TO_RECORD}"
            )


def _check_bundles(question: Question, survey: Survey) -> str:
    """Refuse bundles that cannot run; the digest of the foundation."""
    edge = open_bundle(question.edge)
    if edge.digest != survey.model:
        raise SettingsError(
            f"{question.edge} is edge model {edge.digest[:12]}, the recording is of "
            f"{survey.model[:12]}: give --edge the bundle that the devices ran"
        )
    foundation = open_bundle(question.foundation)
    settings = survey.settings.cloud_settings(
        question.variants[0], group=survey.group, edge=question.edge, foundation=question.foundation
    )
    make_learner(settings, edge=edge, foundation=foundation)  # refuses what does not fit
    return foundation.digest


def _job(question: Question, survey: Survey, variant: Variant, folder: Path) -> Job:
    return Job(
        variant=variant,
        choice=question.choice,
        edge=question.edge,
        foundation=question.foundation,
        edges={
            device: survey.settings.edge_settings(
                variant, device=device, cohort=cohort, group=survey.group, bundle=question.edge
            )
            for device, cohort in survey.cohorts.items()
        },
        cloud=survey.settings.cloud_settings(
            variant, group=survey.group, edge=question.edge, foundation=question.foundation
        ),
        batches=survey.batches,
        folder=folder,
    )
