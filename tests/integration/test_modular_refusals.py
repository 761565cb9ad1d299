"""What a device with a modular bundle does not take: bad pieces, and sub-models not for it."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests import modular_pieces
from tests.brokers import eventually
from tests.daemons import WITHIN_S
from tests.modular_pieces import Bundles, make_blobs, make_manifest
from tests.modular_site import open_modular_site

from driftwell.messages.blob import Blob, Fetch, encode_whole
from driftwell.messages.codec import encode
from driftwell.messages.submodel import ModuleRef
from driftwell.messages.topics import Kind

LARGE = ((0, 1, 2), (1, 2, 3))
SMALL = ((0, 4), (1,))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


async def test_bad_pieces_cost_nothing_but_their_bytes(tmp_path: Path, bundles: Bundles) -> None:
    """Each under its code; the device answers, asks again, and takes good ones."""

    def tampered(fetch: Fetch) -> list[Blob]:
        """Each question gets the next of these, and then good pieces."""
        want = fetch.wants[0]
        arrays = site.cloud.pieces[want.piece]
        altered = {name: array + np.float32(1) for name, array in arrays.items()}
        blobs = make_blobs(want.piece, encode_whole(altered))
        match len(site.cloud.fetches):
            case 1:  # another content, with its own digest
                return blobs
            case 2:  # not what its digest says
                return [msgspec.structs.replace(one, content="d" * 64) for one in blobs]
            case 3:  # far too large
                return [msgspec.structs.replace(one, size_bytes=10**9) for one in blobs]
            case 4:  # no content at all
                return make_blobs(want.piece, b"nonsense")
            case 5:  # of a piece that nobody asked for
                return make_blobs("c" * 64, b"nonsense")
            case _:
                return modular_pieces.answer(fetch, site.cloud.pieces)

    async with open_modular_site(tmp_path, bundles) as site:
        site.cloud.answer = tampered
        await site.start(pieces={"fetch_retry_s": 0.1})
        await site.cloud.order(make_manifest(bundles.cloud, 1, SMALL))
        await eventually(lambda: len(site.cloud.refusals) == 1, WITHIN_S)
        await site.answer()
        assert site.modules.running == 0
        await site.runs(1)

        assert site.cloud.refusals == [
            "wrong-result", "wrong-result", "too-large", "malformed", "too-large",
        ]  # fmt: skip
        assert site.device.counters["pieces_refused"] == 5


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"device": "cam-2"}, "wrong-sender"),
        ({"model": "f" * 64}, "wrong-model"),
        ({"group": "north"}, "wrong-cohort"),
        ({"expires_ns": 1}, "expired"),
        ({"version": 1}, "older-version"),
        ({"layers": ((ModuleRef(module=0, version=0, piece="a" * 64),),)}, "bad-array"),
    ],
)
async def test_a_sub_model_that_is_not_for_it_is_refused(
    tmp_path: Path, bundles: Bundles, changed: dict[str, object], code: str
) -> None:
    """Under its code; what it runs goes on."""
    async with open_modular_site(tmp_path, bundles) as site:
        await site.start()
        await site.cloud.order(make_manifest(bundles.cloud, 1, SMALL))
        await site.runs(1)

        manifest = make_manifest(bundles.cloud, 2, LARGE)
        await site.cloud.order(msgspec.structs.replace(manifest, **changed))
        await eventually(lambda: site.cloud.refusals == [code], WITHIN_S)
        await site.answer()

        assert site.modules.running == 1


async def test_a_forged_sub_model_is_refused(tmp_path: Path, bundles: Bundles) -> None:
    """With another key, or altered after it was signed; a retained repeat is no news."""
    async with open_modular_site(tmp_path, bundles) as site:
        manifest = make_manifest(bundles.cloud, 1, SMALL)
        message = modular_pieces.make_submodel(manifest)
        forged = modular_pieces.make_submodel(manifest, OTHER_KEY)
        altered = msgspec.structs.replace(message, manifest=message.manifest[:-1] + b"\0")
        await site.start()

        for one in (forged, altered, message, message):
            await site.cloud.say(Kind.SUBMODEL, encode(one))
        await site.runs(1)

        await eventually(lambda: len(site.cloud.refusals) == 2, WITHIN_S)
        assert site.cloud.refusals == ["untrusted-key", "bad-signature"]
        assert site.device.counters["submodels_applied"] == 1
