"""What a device's training changes of its sub-model: the modules, and a head of its own.

Trunk and selector are the cloud's and stay as they are, so that the modules of many devices fit
together again (Nebula, ICPP 2024, section 5.2).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.messages.errors import BundleError
from driftwell.messages.images import Pixels
from driftwell.models.modular.module_layer import first_layer, second_layer
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.network import Preparation
from driftwell.models.normalisation import batch_norms, is_normalisation
from driftwell.models.training import Effort, Numbers, Prior, train

TRIED: Final = 4
"""Of so many images one tells whether training on the others pays."""


def learn(
    network: ModularNetwork,
    images: Pixels,
    labels: Numbers,
    prepare: Preparation,
    effort: Effort,
    *,
    seed: Sequence[int],
    prior: Prior | None = None,
    trunk_follows: bool = False,
) -> None:
    """Train the modules and the head in place.

    Args:
        network: A sub-model.
        images: uint8 (N, H, W, C), at least 2.
        labels: (N,)
        prepare: From pixels to the network's input.
        effort: Of the training.
        seed: Of the order of the images.
        prior: log of how much more often each class is here than elsewhere (`prior.log_prior`). As
            part of the loss it leaves the logits those of somebody who knows nothing of it, and
            modules fit devices with other classes; None: nothing.
        trunk_follows: Whether the trunk's normalisation statistics become those of these images.

    Raises:
        BundleError: if the network has no head.
    """
    learning = [*head_of(network).parameters(), *module_parameters(network)]
    train(
        network, images, labels, prepare, effort, seed=seed, prior=prior, learning=learning,
        still=[network.selector, *([] if trunk_follows else _norms_of_trunk(network))],
    )  # fmt: skip


def try_out(count: int, seed: int | Sequence[int]) -> tuple[Numbers, Numbers]:
    """Places of one image of four, to tell whether training on the others pays, and of those."""
    order = np.random.default_rng(seed).permutation(count)
    return order[::TRIED], np.delete(order, np.s_[::TRIED])


def module_parameters(network: ModularNetwork) -> list[nn.Parameter]:
    """All parameters that are modules', and not trunk's or selector's."""
    parameters: list[nn.Parameter] = []
    for place in network.places:
        parameters += first_layer(network.trunk, place).parameters()
        parameters.append(second_layer(network.trunk, place).layer.get_parameter("weight"))
        if place.norm is not None:
            parameters += network.trunk.get_submodule(place.norm).parameters()
    return parameters


def module_norms(network: ModularNetwork) -> list[_BatchNorm]:
    """The modules' BatchNorm layers that keep running statistics."""
    named = [network.trunk.get_submodule(one.norm) for one in network.places if one.norm]
    return [one for one in named if isinstance(one, _BatchNorm) and one.track_running_stats]


@contextmanager
def batch_statistics(network: ModularNetwork, *, wanted: bool = True) -> Iterator[None]:
    """Meanwhile the trunk normalises each batch by itself, and no running statistics move.

    All else stays in evaluation mode. Not `wanted`: nothing happens.
    """
    norms = list(batch_norms(network.trunk)) if wanted else []
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def head_of(network: ModularNetwork) -> nn.Linear:
    """The trunk's last linear layer to run that is no module's: what tells classes apart.

    Args:
        network: Any that holds a module of each layer; it is asked for one answer, and is in
            evaluation mode afterwards.

    Raises:
        BundleError: if there is none that gives one number for each class.
    """
    of_modules = {
        id(layer)
        for place in network.places
        for layer in (first_layer(network.trunk, place), second_layer(network.trunk, place).layer)
    }
    ran: list[nn.Linear] = []

    def note(layer: nn.Module, *_: object) -> None:
        if isinstance(layer, nn.Linear):
            ran.append(layer)

    hooks = [
        layer.register_forward_hook(note)
        for layer in network.trunk.modules()
        if isinstance(layer, nn.Linear) and id(layer) not in of_modules
    ]
    network.eval()
    try:
        with torch.inference_mode():
            classes = network(torch.zeros(1, *network.shape)).shape[-1]
    finally:
        for hook in hooks:
            hook.remove()
    if not ran or ran[-1].out_features != classes:
        raise BundleError("the network has no linear layer of its own that tells classes apart")
    return ran[-1]


def _norms_of_trunk(network: ModularNetwork) -> list[nn.Module]:
    """Normalisation layers that are no module's: their statistics are the cloud's, too."""
    of_modules = {place.norm for place in network.places}
    return [
        layer
        for name, layer in network.trunk.named_modules()
        if is_normalisation(layer) and name not in of_modules
    ]
