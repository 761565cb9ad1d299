"""The offline stage may be stopped at any moment: the last checkpoint leads to the same bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests import tiny, tiny_modular

from driftwell.cloud.modular.checkpoint import (
    CHECKPOINT,
    PARTIAL,
    Run,
    read_checkpoint,
    write_checkpoint,
)
from driftwell.cloud.modular.offline import Trained, data_digest, run_offline
from driftwell.cloud.modular.offline_settings import OfflineSettings
from driftwell.cloud.modular.training import begin_training, train_epoch
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import Bundle
from driftwell.models.modular.folder import whole_weights
from driftwell.models.modular.network import ModularNetwork

COUNT = 90
IMAGES = tiny.make_images(COUNT)
LABELS = np.arange(COUNT) % len(tiny.CLASSES)
SETTINGS = OfflineSettings(joint_epochs=2, ability_epochs=2, batch=32)


class StoppedError(Exception):
    """Somebody has stopped it."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_modular.make_modular(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def run(bundle: Bundle) -> Run:
    return Run(bundle=bundle.digest, data=data_digest(IMAGES, LABELS), seed=3, settings=SETTINGS)


def bits(trained: Trained) -> tuple[str, list[str]]:
    importance = [digest_arrays({"layer": layer}) for layer in trained.importance]
    return digest_arrays(whole_weights(trained.network)), importance


def stop_after(images: int) -> Callable[[int, int], None]:
    """Progress that ends the run once so many images were seen."""

    def tell(seen: int, of: int) -> None:
        assert seen <= of == COUNT * 4
        if seen > images:
            raise StoppedError

    return tell


@pytest.mark.parametrize("stops", [[40], [100], [180, 190, 300], [330]])
def test_it_comes_to_the_same_bits(
    tmp_path: Path, bundle: Bundle, run: Run, stops: list[int]
) -> None:
    """Wherever it was stopped, in either stage, and however often."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run_offline(bundle, IMAGES, LABELS, run, tmp_path / "a")
    for images in stops:
        torch.rand(3)  # what other work draws is nothing to it
        with pytest.raises(StoppedError):
            run_offline(bundle, IMAGES, LABELS, run, tmp_path / "b", progress=stop_after(images))
    gone_on = run_offline(bundle, IMAGES, LABELS, run, tmp_path / "b")

    assert bits(gone_on) == bits(whole)
    assert gone_on.epochs == whole.epochs
    assert [epoch.stage for epoch in whole.epochs] == ["joint"] * 2 + ["ability"] * 2
    files = [(tmp_path / folder / CHECKPOINT).read_bytes() for folder in "ab"]
    assert files[0] == files[1]


def test_at_its_end_nothing_is_trained_again(tmp_path: Path, bundle: Bundle, run: Run) -> None:
    """A kill between the last epoch and the bundle costs no epoch."""
    first = run_offline(bundle, IMAGES, LABELS, run, tmp_path)
    again = run_offline(bundle, IMAGES, LABELS, run, tmp_path, progress=stop_after(0))

    assert bits(again) == bits(first)


def test_the_importance_is_the_mean_over_the_data(tmp_path: Path, bundle: Bundle, run: Run) -> None:
    """For each layer shares of one, as the trained selector has them."""
    trained = run_offline(bundle, IMAGES, LABELS, run, tmp_path)
    inputs = (torch.from_numpy(IMAGES).float().permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        expected = [layer.numpy() for layer in trained.network.importance(inputs)]

    for layer, wanted in zip(trained.importance, expected, strict=True):
        np.testing.assert_allclose(layer, wanted, rtol=1e-4)
        assert layer.sum() == pytest.approx(1)


def network_of(bundle: Bundle) -> ModularNetwork:
    module = bundle.module()
    assert isinstance(module, ModularNetwork)
    return module


def test_what_was_being_written_is_no_checkpoint(tmp_path: Path, bundle: Bundle, run: Run) -> None:
    """A file cut short by a kill is passed over, and overwritten by the next one."""
    (tmp_path / PARTIAL).write_bytes(b"half of i")

    assert read_checkpoint(tmp_path, run, network_of(bundle)) is None
    run_offline(bundle, IMAGES, LABELS, run, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "another run: seed differ"),
        ({"bundle": "0" * 64, "data": "1" * 64}, "another run: bundle, data differ"),
        ({"settings": OfflineSettings(joint_epochs=3)}, "another run: settings differ"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, bundle: Bundle, run: Run, changes: dict[str, object], message: str
) -> None:
    """The error says in what it differs, and the file stays."""
    training = begin_training(network_of(bundle), SETTINGS, seed=3)
    write_checkpoint(tmp_path, run, training, [])

    with pytest.raises(SettingsError, match=message):
        read_checkpoint(tmp_path, msgspec.structs.replace(run, **changes), network_of(bundle))
    assert (tmp_path / CHECKPOINT).exists()


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def drop_generator(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as content:
        header = content.metadata()
    arrays = load_file(file)
    del arrays["generator"]
    save_file(arrays, file, metadata=header)


def drop_header(file: Path) -> None:
    save_file(load_file(file), file)


@pytest.mark.parametrize("damage", [cut_short, drop_generator, drop_header])
def test_a_damaged_checkpoint_is_refused(
    tmp_path: Path, bundle: Bundle, run: Run, damage: Callable[[Path], None]
) -> None:
    """Nothing is trained from it; the error says which file to remove."""
    training = begin_training(network_of(bundle), SETTINGS, seed=3)
    inputs = torch.randn(COUNT, 1, 8, 8)
    epoch = train_epoch(training, inputs, LABELS, SETTINGS)
    write_checkpoint(tmp_path, run, training, [epoch])
    damage(tmp_path / CHECKPOINT)

    with pytest.raises(SettingsError, match=r"checkpoint.safetensors is damaged .* remove it"):
        read_checkpoint(tmp_path, run, network_of(bundle))


def test_a_checkpoint_that_cannot_be_written_is_an_error(
    tmp_path: Path, bundle: Bundle, run: Run
) -> None:
    """A folder in the file's place stands for any disk that does not take it."""
    (tmp_path / PARTIAL).mkdir()

    with pytest.raises(SettingsError, match="no checkpoint can be written"):
        run_offline(bundle, IMAGES, LABELS, run, tmp_path)


def test_a_bundle_in_one_piece_is_refused(tmp_path: Path, run: Run) -> None:
    """The error says how to make a modular one."""
    with pytest.raises(SettingsError, match="bundle create --modular"):
        run_offline(tiny_modular.make_blocks(tmp_path), IMAGES, LABELS, run, tmp_path)


def test_an_epoch_that_was_told_is_kept(tmp_path: Path, bundle: Bundle, run: Run) -> None:
    """Losses of earlier epochs are still known when it has gone on."""
    training = begin_training(network_of(bundle), SETTINGS, seed=3)
    epoch = train_epoch(training, torch.randn(COUNT, 1, 8, 8), LABELS, SETTINGS)
    write_checkpoint(tmp_path, run, training, [replace(epoch, loss=0.25)])
    read = read_checkpoint(tmp_path, run, network_of(bundle))

    assert read is not None
    assert [one.loss for one in read[1]] == [0.25]
    assert read[0].done == 1
