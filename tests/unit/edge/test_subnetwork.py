"""A node of a modular bundle: it switches sub-models, and versions of the whole go on working."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests import modular_pieces, tiny
from tests.modular_pieces import Bundles

from driftwell.edge import subnetwork
from driftwell.edge.assembly import open_model
from driftwell.edge.drift import DriftSettings
from driftwell.edge.filter import FilterSettings
from driftwell.edge.model import Model
from driftwell.edge.node import EdgeNode
from driftwell.edge.settings import Statistics
from driftwell.edge.subnetwork import MEASURE_EVERY, MEASURE_FIRST, ModularModel, SubNetwork
from driftwell.edge.supply import module_values
from driftwell.messages.blob import Arrays
from driftwell.messages.delta import AdaptableState
from driftwell.messages.errors import ArrayError, WireError
from driftwell.models.bundle import Bundle, create_bundle
from driftwell.models.factories import BUILT_INS, build_model
from driftwell.models.modular.decomposition import decompose
from driftwell.models.modular.spec import Structure
from driftwell.models.modular.writing import create_modular_bundle
from driftwell.models.network import Logits, Network
from driftwell.models.own_statistics import StatisticsSettings

IMAGES = tiny.make_images(32)
OTHERS = tiny.make_images(32, seed=1)
CHOSEN = ((0, 2, 5), (1, 4))
STATISTICS: tuple[Statistics, ...] = ("delivered", "first-batch", "own")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return modular_pieces.make_bundles(tmp_path_factory.mktemp("modular"))


@pytest.fixture
def model(bundles: Bundles) -> ModularModel:
    opened = open_model(bundles.device.path)
    assert isinstance(opened, ModularModel)
    return opened


class Only:
    """The same bundle for a node that runs the chosen sub-model and no other."""

    def __init__(self, model: ModularModel, bundles: Bundles) -> None:
        self.digest, self.manifest, self.source = model.digest, model.manifest, model.source
        self._model, self._bundles = model, bundles

    def network(self, *, own_statistics: StatisticsSettings | None = None) -> Network:
        return sub_network(self._model, self._bundles, own_statistics)


def sub_network(
    model: ModularModel, bundles: Bundles, own_statistics: StatisticsSettings | None = None
) -> SubNetwork:
    return model.sub_network(CHOSEN, bundles.cloud.module_arrays, own_statistics=own_statistics)


def make_node(model: Model, statistics: Statistics) -> EdgeNode:
    return EdgeNode(model, FilterSettings(), cohort="cam-1", statistics=statistics)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_switched_node_answers_like_a_new_one(
    model: ModularModel, bundles: Bundles, statistics: Statistics
) -> None:
    """To the bit, from the next batch on, whatever it saw before."""
    node = make_node(model, statistics)
    node.infer(OTHERS)
    node.switch(sub_network(model, bundles, node.own_statistics))
    fresh = make_node(Only(model, bundles), statistics)

    switched = [node.infer(images).logits for images in (IMAGES, OTHERS)]

    for logits, images in zip(switched, (IMAGES, OTHERS), strict=True):
        np.testing.assert_array_equal(logits, fresh.infer(images).logits)


def test_the_fallback_answers_first(model: ModularModel, bundles: Bundles) -> None:
    """It is the sub-model that the bundle names, with the source's statistics."""
    node = make_node(model, "delivered")

    logits = node.infer(IMAGES).logits

    alone = bundles.device.network(bundles.device.spec.fallback)
    np.testing.assert_array_equal(logits, alone.logits(IMAGES))


def share_of(bundles: Bundles, state: AdaptableState) -> Logits:
    """What the whole network with its modules narrowed to the sub-model's answers in a state."""
    whole = bundles.whole.network()
    whole.install(state)
    narrowed = bundles.cloud.network(CHOSEN)
    names = bundles.cloud.adaptable_slices(CHOSEN)
    taken = {}
    for name, share in names.items():
        array = whole.state()[name]
        taken[name] = array if share is None else array.take(share.channels, axis=share.axis)
    narrowed.install(taken)
    return narrowed.logits(IMAGES)


def test_a_version_of_the_whole_moves_a_sub_model_by_its_share(
    model: ModularModel, bundles: Bundles
) -> None:
    """Whether it came before the switch or after; its digest is that of the whole's state."""
    head = tiny.make_manifest(bundles.whole, version=1)
    before, after = make_node(model, "delivered"), make_node(model, "delivered")
    before.offer(head, now_ns=tiny.NOW_NS)
    before.infer(OTHERS)
    before.switch(sub_network(model, bundles))
    after.switch(sub_network(model, bundles))
    after.offer(head, now_ns=tiny.NOW_NS)

    answers = [node.infer(IMAGES) for node in (before, after)]

    expected = share_of(bundles, tiny.applied(bundles.whole))
    for answer in answers:
        np.testing.assert_array_equal(answer.logits, expected)
        assert answer.version == 1
    assert before.incumbent.result == after.incumbent.result == head.result
    assert answers[1].swapped is not None


def test_a_newer_piece_keeps_its_own_values_under_a_version(
    model: ModularModel, bundles: Bundles
) -> None:
    """The version adds what it changed; going back to the source gives the piece's values."""
    layer, module = 0, 2

    def newer(at: int, number: int) -> Arrays:
        arrays = bundles.cloud.module_arrays(at, number)
        assert arrays is not None
        if (at, number) != (layer, module):
            return arrays
        return modular_pieces.moved_piece(arrays)[0]

    network = model.sub_network(CHOSEN, newer)
    piece, source = network.state(), sub_network(model, bundles).state()
    name = "trunk.1.bn1.weight"
    width = len(piece[name]) // 2
    version = tiny.applied(bundles.whole)

    network.install(version)
    moved = network.state()[name]
    network.install(model.source)

    np.testing.assert_allclose(piece[name][width:], source[name][width:] + 0.25, atol=1e-3)
    np.testing.assert_allclose(moved - piece[name], 0.125, atol=1e-3)
    for array, before in zip(network.state().values(), piece.values(), strict=True):
        np.testing.assert_array_equal(array, before)


def test_a_variance_never_becomes_negative(model: ModularModel, bundles: Bundles) -> None:
    """Where piece and version both shrink it, the smaller of the two holds."""
    shrunk = {
        name: array * np.float32(0.2) if name.endswith("running_var") else array
        for name, array in model.source.items()
    }
    arrays = {
        name: array * np.float32(0.1) if name.endswith("running_var") else array
        for name, array in (bundles.cloud.module_arrays(0, 0) or {}).items()
    }
    network = model.sub_network(
        CHOSEN, lambda *at: arrays if at == (0, 0) else bundles.cloud.module_arrays(*at)
    )

    network.install(shrunk)

    assert all((a >= 0).all() for name, a in network.state().items() if name.endswith("_var"))
    assert np.isfinite(network.logits(IMAGES)).all()


def test_a_state_of_something_else_changes_nothing(model: ModularModel, bundles: Bundles) -> None:
    """It must hold exactly the whole model's adaptable arrays."""
    network = sub_network(model, bundles)
    with pytest.raises(ArrayError):
        network.install({"trunk.norm.weight": np.zeros(8, np.float32)})


def test_a_switch_leaves_version_and_filter_as_they_are(
    model: ModularModel, bundles: Bundles
) -> None:
    """It is no version, and nobody is told that one was applied."""
    node = make_node(model, "own")
    node.infer(IMAGES)
    seen = node.filter_state
    node.switch(sub_network(model, bundles, node.own_statistics))
    assert node.filter_state is seen

    predictions = node.infer(IMAGES)

    assert predictions.swapped is None
    assert node.incumbent.version == 0


def test_importance_is_measured_on_a_thin_share_of_the_batches(
    model: ModularModel, bundles: Bundles
) -> None:
    """Every batch at first; it goes on over a switch, and needs no module that is not held."""
    node = make_node(model, "delivered")
    batches = MEASURE_FIRST // 32
    for _ in range(batches + MEASURE_EVERY):
        node.infer(IMAGES)
    assert model.meter.usage.images == MEASURE_FIRST + 32
    node.switch(sub_network(model, bundles))
    node.infer(IMAGES)

    usage = model.meter.usage

    assert usage.images == MEASURE_FIRST + 64
    assert [layer.shape for layer in usage.importance] == [(6,), (6,)]
    np.testing.assert_allclose([layer.sum() for layer in usage.importance], 1, atol=1e-5)


def test_drift_is_watched_over_a_switch(model: ModularModel, bundles: Bundles) -> None:
    """What lies in front of the first normalisation layer is the trunk's: no switch is a drift."""
    node = EdgeNode(model, FilterSettings(), statistics="own", drift=DriftSettings())
    for seed in range(20):
        if seed == 12:
            node.switch(sub_network(model, bundles, node.own_statistics))
        predictions = node.infer(tiny.make_images(64, seed))
        assert predictions.drift is not None
        assert not predictions.drift.drifted

    assert predictions.place is not None


def test_a_folder_with_all_modules_tells_the_source(bundles: Bundles) -> None:
    """So a device can run from the whole bundle, too, and takes the same versions."""
    opened = open_model(bundles.whole.path)

    assert isinstance(opened, ModularModel)
    assert opened.source.keys() == bundles.whole.source.keys()
    for name, array in opened.source.items():
        np.testing.assert_array_equal(array, bundles.whole.source[name])


def test_without_the_source_versions_are_refused(bundles: Bundles) -> None:
    """A device that cannot verify a version does not take it, and goes on."""
    node = EdgeNode(ModularModel(bundles.device, {}), FilterSettings(), cohort="cam-1")

    with pytest.raises(WireError):
        node.offer(tiny.make_manifest(bundles.whole, version=1), now_ns=tiny.NOW_NS)

    with pytest.raises(ArrayError, match="does not tell the source"):
        ModularModel(bundles.device, {}).network().install(bundles.whole.source)
    node.infer(IMAGES)


def test_a_bundle_in_one_piece_is_opened_as_ever(tmp_path: Path) -> None:
    """It has no modules, and nothing of this concerns it."""
    bundle = tiny.make_bundle(tmp_path, "edge")

    assert isinstance(open_model(bundle.path), Bundle)


def test_the_sizes_of_modules_are_known_without_the_modules(bundles: Bundles) -> None:
    """From the fallback's and the widths; a bypass has none."""
    sizes = [
        [sum(a.size for a in (bundles.cloud.module_arrays(layer, n) or {}).values())
         for n in range(6)]
        for layer in range(2)
    ]  # fmt: skip

    assert module_values(bundles.device) == tuple(map(tuple, sizes))
    assert sizes[0][5] == 0


@pytest.mark.parametrize("statistics", STATISTICS)
def test_measuring_importance_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statistics: Statistics
) -> None:
    """Also not where the selector normalises: whether it is measured or not, answers are alike."""
    known = BUILT_INS["cifar-resnet20"]
    base = create_bundle(
        tmp_path / "base",
        model="cifar-resnet20",
        weights={n: t.numpy() for n, t in build_model("cifar-resnet20").state_dict().items()},
        shape=known.shape,
        classes=known.classes,
        preprocessing=known.preprocessing,
    )
    cut = decompose(base.module(), torch.zeros(1, 3, 32, 32), Structure(layers=1), seed=0)
    create_modular_bundle(tmp_path / "whole", base=base, network=cut)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 32, 32, 3), dtype=np.uint8)
    answers = []
    for first in (0, 1000):
        monkeypatch.setattr(subnetwork, "MEASURE_FIRST", first)
        node = make_node(open_model(tmp_path / "whole"), statistics)
        answers.append([node.infer(batch).logits for batch in images])

    np.testing.assert_array_equal(answers[0], answers[1])
