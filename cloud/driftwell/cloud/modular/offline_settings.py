"""Pure. How the offline stage learns, and how sub-models are refined once a fleet is known."""

from pathlib import Path
from typing import Annotated

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class OfflineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the offline stage learns. The authors give none of these values."""

    joint_epochs: Count = 10
    ability_epochs: Count = 10
    """0: no ability-enhancing training."""
    learning_rate: Positive = 1.5e-3
    """Adam's; the highest, where it is not constant."""
    one_cycle: bool = True
    """Whether the rate follows `cycle`, over both stages together."""
    mirrors: bool = False
    """Whether an image and its mirror image are of one class: then half of them are mirrored."""
    shift: Count = 0
    """Pixels by which an image may move and stay of its class."""
    distilled: Share = 0.0
    """Share of the loss that asks for the teacher's answers and not for the labels."""
    batch: Annotated[int, msgspec.Meta(ge=2)] = 64
    balance: NotNegative = 0.01
    """Weight of the balance losses."""
    guidance: NotNegative = 1.0
    """Weight of KL(gate label || gates) in the second stage."""
    away: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.95
    """Largest share of all modules' values that the sub-model of a step does without."""
    sandwich: bool = True
    """Whether all modules learn beside those of the sub-model in each step, as the sandwich rule
    asks (Yu and Huang, 2019): twice the time, and the whole network loses nothing."""
    quiet: float = -2.0
    """Added to the noise scales in front of their softplus; below 0 for less noise."""
    modules_per_task: Annotated[int, msgspec.Meta(ge=1)] = 3


class RefiningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the sub-models of a fleet are trained together (`refining`)."""

    batches: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000
    batch: Annotated[int, msgspec.Meta(ge=2)] = 64
    learning_rate: Positive = 1.5e-3
    """Adam's, at its highest; it follows `cycle`."""
    mirrors: bool = False
    """As in `OfflineSettings`."""
    shift: Count = 0
    """As in `OfflineSettings`."""


class RefinementSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and when the cloud refines the sub-models of its fleet."""

    data: Path | None = None
    """Labelled source images, as for `driftwell modular train`; None: nothing is refined."""
    settle_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """For so long no device got other modules; at most ten times as long it is waited for."""
    rest_s: Annotated[float, msgspec.Meta(ge=0)] = 600.0
    """Between two refinements, at least; after one that failed twice as long, and so on."""
    moved: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.25
    """Share of a device's images that must have become others' classes to refine for it again."""
    training: RefiningSettings = RefiningSettings()
