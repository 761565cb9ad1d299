"""The problems of the elastic bench: data, full network, and how much it is trained beforehand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from torch import nn

from driftwell.messages.errors import SettingsError
from driftwell.models.preprocessing import Preprocessing
from driftwell.models.training import STILL, Effort, Views
from driftwell.tools.elastic.networks import digits_mlp, slim_resnet
from driftwell.tools.elastic.plan import Shares
from driftwell.tools.elastic.samples import Samples, read_cifar_jpeg, read_digits


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be learned, and by which network."""

    name: str
    shape: tuple[int, int, int]
    """(H, W, C) of an image."""
    classes: int
    preprocessing: Preprocessing
    network: Callable[[float], nn.Module]
    """From a width, above 0 and at most 1, to an untrained network; it can be pickled."""
    pretraining: Effort
    """Of the full network on the cloud's proxy data."""
    learning: Effort
    """Of a sub-model on its device."""
    views: Views = STILL
    """Of its images; used where a method is the better for it."""
    shares: Shares = field(default_factory=Shares)
    """What budgets are drawn from, unless the plan says so."""


CIFAR_VIEWS: Final = Views(mirrors=True, shift=4)

PROBLEMS: Final[Mapping[str, Problem]] = MappingProxyType(
    {
        "digits": Problem(
            name="digits",
            shape=(8, 8, 1),
            classes=10,
            preprocessing=Preprocessing(mean=(0.3,), std=(0.37,)),
            network=digits_mlp,
            # The training loss is near 0 by then; further epochs change the accuracy no more.
            pretraining=Effort(epochs=20, rate=0.001, batch=32),
            learning=Effort(epochs=10, rate=0.0005, batch=16),
            # So small a network takes the time of its calls, whatever its width.
            shares=Shares(latency=(1.5, 2.0, 3.0)),
        ),
        "cifar": Problem(
            name="cifar",
            shape=(32, 32, 3),
            classes=10,
            preprocessing=Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            network=slim_resnet,
            pretraining=Effort(epochs=40, rate=0.003, batch=64, one_cycle=True, views=CIFAR_VIEWS),
            # With 0.0005 a sub-model is worse after its training than before.
            learning=Effort(epochs=5, rate=0.0001, batch=16),
            views=CIFAR_VIEWS,
            shares=Shares(latency=(1.5, 2.0, 3.0)),
        ),
    }
)


def read_samples(problem: Problem, path: Path | None, limit: int | None) -> Samples:
    """A problem's samples.

    Args:
        problem: One of `PROBLEMS`.
        path: The file of `cifar`; the digits need none.
        limit: Of `cifar`: how many images at most; None: all.

    Raises:
        SettingsError: if a path is missing, or there for the digits.
        SourceError: if the data cannot be read.
    """
    if problem.name == "digits":
        if path is not None or limit is not None:
            raise SettingsError("the digits come with scikit-learn: leave path and limit out")
        return read_digits()
    if path is None:
        raise SettingsError(f"{problem.name} needs the path of an .npz file")
    return read_cifar_jpeg(path, limit)
