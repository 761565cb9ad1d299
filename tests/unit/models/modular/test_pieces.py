"""A modular network in pieces: they are all there is to it, and whole or not at all."""

import numpy as np
import pytest
import torch

from driftwell.messages.errors import ArrayError
from driftwell.models.cifar_resnet import cifar_resnet
from driftwell.models.modular.decomposition import Structure, decompose, derive
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import (
    piece_digest,
    read_module,
    read_trunk,
    write_module,
    write_trunk,
)

LAST = 5
"""Number of the bypass."""


@pytest.fixture
def modular() -> ModularNetwork:
    torch.manual_seed(0)
    structure = Structure(modules=6, slices=4, active=2)
    return decompose(cifar_resnet(8), torch.zeros(1, 3, 8, 8), structure, seed=0)


def everything(network: ModularNetwork) -> int:
    """Values in all pieces."""
    pieces = [read_trunk(network)] + [
        read_module(network, layer, module)
        for layer, place in enumerate(network.places)
        for module in place.held
    ]
    return sum(array.size for piece in pieces for array in piece.values())


def test_the_pieces_are_the_whole_network(modular: ModularNetwork) -> None:
    """Every value is in exactly one of them, but for counters of training steps."""
    state = modular.state_dict()
    values = sum(t.numel() for name, t in state.items() if not name.endswith("batches_tracked"))

    assert everything(modular) == values


def test_pieces_bring_one_network_to_another(modular: ModularNetwork) -> None:
    """Trunk and modules of one, put into another that was trained differently."""
    torch.manual_seed(9)
    other = decompose(
        cifar_resnet(8), torch.zeros(1, 3, 8, 8), Structure(modules=6, slices=4, active=2), seed=5
    )
    write_trunk(other, read_trunk(modular))
    for layer, place in enumerate(modular.places):
        for module in place.held:
            write_module(other, layer, module, read_module(modular, layer, module))
    images = torch.randn(3, 3, 8, 8)

    with torch.inference_mode():
        assert torch.equal(other(images), modular(images))


def test_a_module_has_one_name_wherever_it_is_held(modular: ModularNetwork) -> None:
    """So a device that has it need not fetch it for another sub-model."""
    subs = [derive(modular, [held] * 3) for held in ((1, 2), (0, 2, LAST))]
    names = {piece_digest(read_module(sub, 1, 2)) for sub in (*subs, modular)}

    assert len(names) == 1
    assert piece_digest(read_module(modular, 1, 1)) not in names


def test_the_bypass_is_nothing(modular: ModularNetwork) -> None:
    """No arrays: nothing to fetch and nothing to learn."""
    assert read_module(modular, 2, LAST) == {}


def test_a_module_that_does_not_fit_changes_nothing(modular: ModularNetwork) -> None:
    """Missing, strange, misshapen or poisoned: refused whole."""
    good = read_module(modular, 0, 1)
    name = next(iter(good))
    wrong = [
        {},
        good | {"more": good[name]},
        good | {name: good[name][:1]},
        good | {name: good[name].astype(np.float64)},
        good | {name: np.full_like(good[name], np.nan)},
    ]
    for arrays in wrong:
        with pytest.raises(ArrayError):
            write_module(modular, 0, 1, arrays)
    with pytest.raises(ArrayError, match="not held"):
        read_module(derive(modular, [(0,)] * 3), 0, 1)

    after = read_module(modular, 0, 1)
    assert all(np.array_equal(after[key], good[key]) for key in good)


def test_what_was_written_is_what_answers(modular: ModularNetwork) -> None:
    """A module is in use at once, and the others stay as they are."""
    zeros = {name: np.zeros_like(array) for name, array in read_module(modular, 1, 3).items()}
    neighbour = read_module(modular, 1, 2)
    images = torch.randn(4, 3, 8, 8)
    gates = [torch.zeros(4, 6) for _ in modular.places]
    for layer in gates:
        layer[:, 3] = 1
    with torch.inference_mode():
        before = modular.answer(images, gates)
        write_module(modular, 1, 3, zeros)
        after_it = modular.answer(images, gates)
        gates[1][:, 3], gates[1][:, LAST] = 0, 1
        by_bypass = modular.answer(images, gates)

    assert not any(array.any() for array in read_module(modular, 1, 3).values())
    assert not torch.equal(before, after_it)
    assert torch.equal(after_it, by_bypass)  # a module of zeros does what the bypass does
    after = read_module(modular, 1, 2)
    assert all(np.array_equal(after[name], neighbour[name]) for name in neighbour)
