"""A network that follows its own stream: what moves, what starts again, what it tells."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests import tiny
from torch import Tensor, nn

from driftwell.messages.delta import AdaptableState
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.network import Network, Preparation
from driftwell.models.own_statistics import OwnStatistics
from driftwell.models.statistics import StatisticsSettings

IMAGES, OTHERS = tiny.make_images(32), tiny.make_images(32, seed=1) // 4
SETTINGS = StatisticsSettings(rate=0.01, prior_images=8, version_images=64)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path, "edge")


@pytest.fixture
def network(bundle: Bundle) -> Network:
    return bundle.network(own_statistics=SETTINGS)


class Backwards(nn.Module):
    """Its stem's layer is the last of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.BatchNorm2d(1)
        self.stem = nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1)."""
        return torch.as_tensor(self.late(torch.relu(self.stem(images)))).mean(dim=(2, 3))


def test_answers_move_with_the_stream_and_the_state_does_not(
    bundle: Bundle, network: Network
) -> None:
    """The same images are answered otherwise after others; the adaptable state keeps every bit."""
    before = network.logits(IMAGES)
    for _ in range(5):
        network.logits(OTHERS)

    assert not np.array_equal(network.logits(IMAGES), before)
    state = network.state()
    assert list(state) == list(bundle.source)
    assert all(np.array_equal(state[name], bundle.source[name]) for name in state)


def test_a_restart_takes_it_back_to_the_beginning(bundle: Bundle, network: Network) -> None:
    """After it, a stream is answered bit for bit as by another network."""
    network.logits(OTHERS)
    network.restart_statistics()

    other = bundle.network(own_statistics=SETTINGS)
    for images in (IMAGES, OTHERS, IMAGES[:1]):
        assert np.array_equal(network.logits(images), other.logits(images))


def test_a_version_is_the_prior_of_what_comes_after(bundle: Bundle, network: Network) -> None:
    """Its statistics weigh as many images as `version_images` says, and replace what was."""
    version = tiny.applied(bundle)
    network.logits(OTHERS)
    network.install(version)
    logits = network.logits(IMAGES)

    # The same prior, worth as much, of a network whose source it is.
    alike = following(bundle, version, prior_images=64)
    assert np.array_equal(logits, alike.logits(IMAGES))
    state = network.state()
    assert all(np.array_equal(state[name], version[name]) for name in version)


@pytest.mark.parametrize(("elsewhere", "worth"), [(False, 64), (True, 8)])
def test_after_a_drift_a_version_is_worth_what_the_source_is(
    bundle: Bundle, network: Network, elsewhere: bool, worth: int
) -> None:
    """A version measured elsewhere weighs `prior_images`, in every layer, until the next one."""
    version = tiny.applied(bundle)
    for _ in range(2):
        network.install(version)
        network.logits(OTHERS)
        network.restart_statistics(elsewhere=elsewhere)
        logits = network.logits(IMAGES)

        # The same prior, worth as much, of a network whose source it is.
        alike = following(bundle, version, prior_images=worth)
        assert np.array_equal(logits, alike.logits(IMAGES))

    network.install(tiny.applied(bundle, by=0.25))
    alike = following(bundle, tiny.applied(bundle, by=0.25), prior_images=64)
    assert np.array_equal(network.logits(IMAGES), alike.logits(IMAGES))


def test_the_first_batch_after_a_switch_has_a_signature(bundle: Bundle) -> None:
    """Also where the average that is gone on with has settled, and only some batches count."""
    settings = StatisticsSettings()
    before, after = (bundle.network(own_statistics=settings) for _ in range(2))
    for _ in range(20):
        before.logits(IMAGES)
    after.resume(before.followed)
    after.logits(OTHERS)

    assert after.signature() is not None


def at_home(images: int, home_images: int = 1024) -> tuple[Network, Pixels]:
    """A network whose statistics are those of all of its images, and these."""
    generator = torch.Generator().manual_seed(0)
    shown = tiny.make_images(images, seed=7)
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, momentum=1.0), Pooling())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1, generator=generator)
        module(Preparation(tiny.PREPROCESSING)(shown))
    own = StatisticsSettings(prior_images=16, home_images=home_images)
    return Network(module, tiny.PREPROCESSING, own_statistics=own), shown


class Pooling(nn.Module):
    """(N, C, H, W) -> (N, C)."""

    def forward(self, features: Tensor) -> Tensor:
        """Mean over the map."""
        return features.mean(dim=(2, 3))


def test_a_stream_like_the_images_of_training_is_left_to_the_prior() -> None:
    """At home own statistics weigh little; elsewhere as ever; and the way back is open."""
    network, shown = at_home(512)
    (layer,) = network.own_layers
    for start in range(0, 512, 32):
        network.logits(shown[start : start + 32])
    assert layer.share < 512 / (512 + 16) - 0.2
    assert layer.share >= 0.99 * layer.images / (layer.images + 1024)

    network.restart_statistics()
    for start in range(0, 512, 32):
        network.logits(shown[start : start + 32] // 3)
    assert layer.prior_worth == 1

    network.restart_statistics()
    network.logits(shown[:32])
    network.logits(shown[32:64])
    assert layer.prior_worth > 1


def test_without_images_for_home_the_prior_is_worth_what_it_is() -> None:
    network, shown = at_home(128, 0)
    network.logits(shown[:64])
    network.logits(shown[64:])

    (layer,) = network.own_layers
    assert layer.share == pytest.approx(128 / (128 + 16), rel=0.01)


def test_a_version_is_not_home() -> None:
    """Its statistics are of few images, however near the stream is to them."""
    network, shown = at_home(128)
    state = network.state()
    network.install({name: array * np.float32(1.001) for name, array in state.items()})
    network.logits(shown[:64])
    network.logits(shown[64:])

    (layer,) = network.own_layers
    assert layer.prior_worth > 1
    assert layer.share == pytest.approx(layer.images / (layer.images + 256))


def following(bundle: Bundle, source: AdaptableState, *, prior_images: int) -> Network:
    """A network whose source is a given state, worth so many images."""
    module = bundle.module()
    module.load_state_dict({n: torch.from_numpy(a) for n, a in source.items()}, strict=False)
    settings = StatisticsSettings(rate=0.01, prior_images=prior_images, version_images=0)
    return Network(module, tiny.PREPROCESSING, own_statistics=settings)


@pytest.mark.parametrize("counts", [False, True])
def test_runs_are_measured_whether_or_not_statistics_count_them(
    bundle: Bundle, counts: bool
) -> None:
    """One image over and over says nothing new; an answer depends on it only where it counts."""
    network = bundle.network(own_statistics=StatisticsSettings(design_effect=counts))
    plain = bundle.network(own_statistics=StatisticsSettings(design_effect=False))
    before = network.design_effect
    for one in (network, plain):
        one.logits(np.repeat(IMAGES[:1], 64, axis=0))

    assert before == bundle.network().design_effect == 1
    assert network.design_effect == plain.design_effect == 64
    assert np.array_equal(network.logits(OTHERS), plain.logits(OTHERS)) is not counts


def test_without_own_statistics_nothing_moves(bundle: Bundle) -> None:
    """A plain network has torch's own layers, no signature, and nothing to restart."""
    plain = bundle.network()
    before = plain.logits(IMAGES)
    plain.logits(OTHERS)
    plain.restart_statistics()

    assert plain.signature() is None
    assert np.array_equal(plain.logits(IMAGES), before)
    assert not any(isinstance(layer, OwnStatistics) for layer in plain.module.modules())


def test_the_signature_is_the_last_batchs_at_the_stem(network: Network) -> None:
    """Mean and variance of the first convolution's output, whatever came before; then nothing."""
    assert network.signature() is None
    for images in (OTHERS, IMAGES):
        network.logits(images)
    signature = network.signature()
    assert signature is not None

    features = network.module.conv1(Preparation(tiny.PREPROCESSING)(IMAGES)).detach()
    variance, mean = torch.var_mean(features, (0, 2, 3), correction=0)
    np.testing.assert_allclose(signature[0], mean, atol=1e-5)
    np.testing.assert_allclose(signature[1], variance, rtol=1e-4)
    assert [moment.dtype for moment in signature] == [np.float32, np.float32]
    network.restart_statistics()
    assert network.signature() is None


def test_the_stem_is_the_first_of_the_pass_not_of_the_modules() -> None:
    """Modules may be made in any order; the signature is that of the images themselves here."""
    network = Network(Backwards(), tiny.PREPROCESSING, own_statistics=SETTINGS)
    for images in (IMAGES, OTHERS):
        network.logits(images)
        signature = network.signature()
        assert signature is not None
        inputs = Preparation(tiny.PREPROCESSING)(images)
        np.testing.assert_allclose(signature[0], [inputs.mean()], rtol=1e-4)


def test_a_network_without_batch_norm_has_no_signature(tmp_path: Path) -> None:
    """LayerNorm needs no stream: the answers are those of the plain network."""
    bundle = tiny.make_bundle(tmp_path, "layer_norm")
    network = bundle.network(own_statistics=SETTINGS)
    network.logits(OTHERS)

    assert np.array_equal(network.logits(IMAGES), bundle.network().logits(IMAGES))
    assert network.signature() is None
