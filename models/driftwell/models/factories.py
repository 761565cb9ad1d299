"""From a model's name to an untrained network: built-ins, or `package.module:factory`.

Naming a factory makes Driftwell import that module and call it, as any Python import
would; open only bundles whose origin you trust.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from torch import nn

from driftwell.messages.errors import BundleError
from driftwell.models.cifar_resnet import cifar_resnet
from driftwell.models.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A network Driftwell brings, with what its published weights expect."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    preprocessing: Preprocessing


# The statistics of the published CIFAR ResNets (they are those of ImageNet).
_CIFAR_PREPROCESSING: Final = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_CIFAR10_CLASSES: Final = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

BUILT_INS: Final[Mapping[str, BuiltIn]] = MappingProxyType(
    {
        f"cifar-resnet{depth}": BuiltIn(
            partial(cifar_resnet, depth), (32, 32, 3), _CIFAR10_CLASSES, _CIFAR_PREPROCESSING
        )
        for depth in (20, 32, 44, 56)
    }
)


def build_model(name: str) -> nn.Module:
    """Build the untrained network that `name` names.

    Raises:
        BundleError: if the name is unknown, its module cannot be imported, or what it
            names does not return a `torch.nn.Module`.
    """
    if name in BUILT_INS:
        return BUILT_INS[name].build()
    module_name, _, attribute = name.partition(":")
    if not attribute:
        known = ", ".join(BUILT_INS)
        raise BundleError(f"unknown model {name!r}: use one of {known}, or package.module:factory")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise BundleError(f"model {name!r} cannot be imported: {error}") from error
    try:
        model = factory()
    except Exception as error:  # the factory is the user's code: whatever it raises is reported
        raise BundleError(f"factory {name!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise BundleError(f"factory {name!r} returned {type(model).__name__}, not a torch module")
    return model
