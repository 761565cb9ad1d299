"""A bundle's self-test is one of the images that its manifest is about."""

from pathlib import Path

import msgspec
import pytest
from tests import tiny, tiny_modular

from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.models.manifest import MANIFEST, InputSpec, encode_manifest
from driftwell.models.modular.bundle import open_modular
from driftwell.models.modular.writing import write_device_copy


def reshape(bundle: Bundle, shape: tuple[int, int, int]) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, input=InputSpec(shape=shape))
    (bundle.path / MANIFEST).write_bytes(encode_manifest(manifest))


def test_a_manifest_about_other_images_is_refused(tmp_path: Path) -> None:
    """Also where the network would take them: a convolution takes any size."""
    whole = tiny_modular.make_modular(tmp_path)
    copy = tmp_path / "device"
    write_device_copy(whole, copy)
    for bundle in (tiny.make_bundle(tmp_path, "edge"), whole):
        reshape(bundle, (4, 16, 1))
        with pytest.raises(BundleError, match=r"holds images of \(8, 8, 1\)"):
            open_bundle(bundle.path)
    copy.joinpath(MANIFEST).write_bytes((whole.path / MANIFEST).read_bytes())
    with pytest.raises(BundleError, match=r"the manifest's are \(4, 16, 1\)"):
        open_modular(copy)
