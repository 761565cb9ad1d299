"""A network cut into modules computes what it did, and a sub-model what its modules do."""

import copy

import pytest
import torch
from torch import Tensor, nn

from driftwell.messages.errors import BundleError
from driftwell.models.cifar_resnet import cifar_resnet
from driftwell.models.modular.decomposition import Structure, decompose, derive
from driftwell.models.modular.module_layer import second_layer
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pairs import find_pairs
from driftwell.models.network import Network
from driftwell.models.preprocessing import Preprocessing
from driftwell.models.statistics import StatisticsSettings

SLICES = 4


def resnet() -> nn.Module:
    return cifar_resnet(8)


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 16), (16, 16), (16, 24), (24, 24)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 16 * 16, 12), nn.LayerNorm(12),
        nn.Linear(12, 30), nn.BatchNorm1d(30), nn.GELU(), nn.Dropout(0.1), nn.Linear(30, 12),
        nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 10),
    )  # fmt: skip


NETWORKS = {"resnet": resnet, "vgg": vgg, "mlp": mlp}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    """One that has been trained, as far as its arrays tell."""
    torch.manual_seed(0)
    module: nn.Module = NETWORKS[request.param]()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor in (layer.running_mean, layer.bias):
                nn.init.normal_(tensor, std=0.3)  # type: ignore[arg-type]
            for tensor in (layer.running_var, layer.weight):
                nn.init.uniform_(tensor, 0.5, 2)  # type: ignore[arg-type]
    return module.eval()


def inputs(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def even_gates(modular: ModularNetwork, count: int) -> list[Tensor]:
    """The modules of the first set of slices alike, the others shut."""
    gates = torch.zeros(count, SLICES + 1)
    gates[:, :SLICES] = 1 / SLICES
    return [gates for _ in modular.places]


def cut(network: nn.Module, modules: int = 9, active: int = 3) -> ModularNetwork:
    structure = Structure(modules=modules, slices=SLICES, active=active)
    return decompose(network, inputs(1), structure, seed=0)


def test_one_set_of_slices_at_even_gates_is_the_trained_network(network: nn.Module) -> None:
    """Nothing of what was trained is lost: the modules are shares of it."""
    modular = cut(network, SLICES + 1)
    before = copy.deepcopy(network.state_dict())

    with torch.inference_mode():
        expected = network(inputs())
        torch.testing.assert_close(
            modular.answer(inputs(), even_gates(modular, 5)), expected, rtol=1e-4, atol=1e-4
        )
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_sub_model_answers_as_the_whole_with_the_others_shut(network: nn.Module) -> None:
    """What is not held is what a gate of 0 leaves out."""
    modular = cut(network)
    chosen = [(0, 3, 5) if number % 2 else (1, 8) for number in range(len(modular.places))]
    sub = derive(modular, chosen)
    available = []
    for place, wanted in zip(modular.places, chosen, strict=True):
        mask = torch.zeros(place.total, dtype=torch.bool)
        mask[list(wanted)] = True
        available.append(mask)

    with torch.inference_mode():
        scores, _ = modular.selector(inputs())
        whole = modular.answer(inputs(), modular.gates(scores, available=available))
        torch.testing.assert_close(sub(inputs()), whole, rtol=1e-5, atol=1e-5)
        for of_whole, of_sub in zip(
            modular.importance(inputs()), sub.importance(inputs()), strict=True
        ):
            assert torch.equal(of_whole, of_sub)
    assert sub.held == tuple(chosen)
    assert sum(p.numel() for p in sub.parameters()) < sum(p.numel() for p in modular.parameters())


def test_a_sub_model_of_a_sub_model(network: nn.Module) -> None:
    """Numbers stay those of the whole model, so a device can shrink what it holds."""
    modular = cut(network)
    larger = derive(modular, [(1, 4, 6)] * len(modular.places))
    smaller = derive(larger, [(4, 6)] * len(modular.places))
    at_once = derive(modular, [(4, 6)] * len(modular.places))

    with torch.inference_mode():
        assert torch.equal(smaller(inputs()), at_once(inputs()))


def test_every_layer_by_its_bypass_alone(network: nn.Module) -> None:
    """It answers, and whatever its weights learn is not heard: the bypass stays one."""
    modular = cut(network)
    chosen = [(8,) if 0 in place.widths else (0,) for place in modular.places]
    sub = derive(modular, chosen)
    with torch.inference_mode():
        before = sub(inputs())
        for place in sub.places:
            if place.widths == (0,):
                nn.init.normal_(second_layer(sub.trunk, place).layer.weight)

        assert torch.isfinite(before).all()
        assert torch.equal(sub(inputs()), before)


def test_a_bypass_passes_its_input_on() -> None:
    """As it is: not scaled, and with the layer's bias only."""
    chain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    sub = derive(cut(chain.eval()), [(8,)])

    bias = chain.get_parameter("2.bias")
    with torch.inference_mode():
        expected = inputs() + bias.view(1, 3, 1, 1)
        torch.testing.assert_close(sub(inputs()), expected)


def test_it_is_a_network_like_any_other(network: nn.Module) -> None:
    """Norm parameters, own statistics and the rest work on a sub-model, too."""
    sub = derive(cut(network), [(0, 2)] * len(cut(network).places))
    preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3)
    running = Network(sub, preprocessing, own_statistics=StatisticsSettings())
    images = (torch.rand(8, 16, 16, 3) * 255).to(torch.uint8).numpy()
    logits = running.logits(images)
    state = running.state()
    running.install({name: array * 1.01 for name, array in state.items()})

    assert logits.shape == (8, 10)
    assert (running.logits(images) != logits).any()


def test_the_same_seed_gives_the_same_modules(network: nn.Module) -> None:
    """And another seed sets the copies apart in another way."""
    states = [
        decompose(network, inputs(1), Structure(modules=9, slices=SLICES), seed=seed).state_dict()
        for seed in (3, 3, 4)
    ]

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_only_the_last_blocks() -> None:
    """Most parameters are in the deep ones."""
    structure = Structure(modules=5, slices=SLICES, layers=1)
    modular = decompose(resnet(), inputs(1), structure, seed=0)

    assert [place.first for place in modular.places] == ["layer3.0.conv1"]


def test_of_pairs_that_share_a_layer_the_largest_stays() -> None:
    """The wide layer of an MLP, not the narrow ones beside it."""
    pairs = [(pair.first, pair.second) for pair in find_pairs(mlp(), at_least=SLICES)]

    assert pairs == [("3", "7")]
    assert [pair.first for pair in find_pairs(mlp(), at_least=20)] == ["3"]


def test_a_sub_model_lacks_what_the_other_lacks() -> None:
    """What is not there cannot be chosen, and a layer without a module has no answer."""
    modular = cut(resnet())
    count = len(modular.places)
    with pytest.raises(BundleError, match=r"lacks modules \[9\]"):
        derive(modular, [(0, 9)] * count)
    with pytest.raises(BundleError, match="left without a module"):
        derive(modular, [()] * count)
    with pytest.raises(BundleError, match="layers are chosen"):
        derive(modular, [(0,)])


def test_linear_layers_over_tokens_are_gated_by_channel() -> None:
    """(N, tokens, channels): also where there are as many tokens as channels."""
    mixer = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6), nn.LayerNorm(6),
                          nn.Linear(6, 3)).eval()  # fmt: skip
    example = torch.randn(2, 8, 6)
    modular = decompose(mixer, example, Structure(modules=6, slices=4, active=2), seed=0)
    gates = torch.zeros(2, 6)
    gates[:, 1] = 1
    with torch.inference_mode():
        got = modular.answer(example, [gates])
        hidden = torch.nn.functional.gelu(mixer[0](example))
        mask = torch.zeros(8)
        mask[2:4] = 4.0  # the second of four slices, times their number
        expected = mixer[3:](mixer[2](hidden * mask))
    torch.testing.assert_close(got, expected)


def test_a_pass_that_fails_leaves_nothing_behind() -> None:
    """Or the next sub-model could not be made."""
    modular = cut(mlp().eval())
    with pytest.raises(RuntimeError):
        modular.answer(torch.randn(2, 3, 4, 4), even_gates(modular, 2))

    assert derive(modular, [(0,)])(inputs()).shape == (5, 10)


def test_slices_need_as_many_modules_and_a_bypass() -> None:
    """With fewer a part of the trained network would be thrown away."""
    with pytest.raises(ValueError, match="more than the 8 slices"):
        Structure(modules=8, slices=8)
