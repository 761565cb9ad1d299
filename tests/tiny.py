"""Models and streams so small that a whole run takes a second: 8x8x1 images, 4 classes.

A test names the factories as `tests.tiny:edge` and so on; a program in a process of its own
needs the repository's root on its PYTHONPATH.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.messages.ack import Ack
from driftwell.messages.delta import AdaptableState, encode_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.head import Head, Manifest, Provenance
from driftwell.messages.images import Pixels, pack_images
from driftwell.messages.samples import SampleBatch, pack_columns
from driftwell.messages.signing import sign_manifest
from driftwell.models.bundle import Bundle, create_bundle
from driftwell.models.preprocessing import Preprocessing

SHAPE: Final = (8, 8, 1)
CLASSES: Final = ("circle", "cross", "square", "star")
PREPROCESSING: Final = Preprocessing(mean=(0.5,), std=(0.25,))
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY: Final = KEY.public_key().public_bytes_raw()
SESSION: Final = "0123456789abcdef"
CLOUD_SESSION: Final = "c" * 16
NOW_NS: Final = 1_800_000_000 * 10**9
DAY_NS: Final = 86_400 * 10**9


class TinyNetwork(nn.Module):
    """Two convolutions with BatchNorm, average pooling, a linear head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 4) logits."""
        features = torch.relu(self.bn1(self.conv1(images)))
        features = torch.relu(self.bn2(self.conv2(features)))
        return torch.as_tensor(self.head(features.mean(dim=(2, 3))))


class NormedNetwork(nn.Module):
    """A linear network with one normalisation layer of any sort, or none."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(64, 8)
        self.norm = norm
        self.head = nn.Linear(8, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 4) logits."""
        return torch.as_tensor(self.head(self.norm(self.first(images.flatten(1)))))


def edge() -> nn.Module:
    """The edge model."""
    return TinyNetwork(4)


def foundation() -> nn.Module:
    """The foundation model."""
    return TinyNetwork(8)


def layer_norm() -> nn.Module:
    """A network that normalises by LayerNorm."""
    return NormedNetwork(nn.LayerNorm(8))


def group_norm() -> nn.Module:
    """A network that normalises by GroupNorm."""
    return NormedNetwork(nn.GroupNorm(2, 8))


def no_norm() -> nn.Module:
    """A network without a normalisation layer."""
    return NormedNetwork(nn.Identity())


def weights_of(module: nn.Module, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Reproducible weights; the head's are large, so that some answers are certain."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, NDArray[np.generic]] = {}
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.startswith(("conv", "first")):
            noise = noise / np.sqrt(tensor[0].numel())
        elif name == "head.weight":
            noise = 3 * noise
        elif name.endswith(("running_var", "norm.weight")) or name in ("bn1.weight", "bn2.weight"):
            noise = 1 + 0.1 * noise.abs()
        else:
            noise = 0.1 * noise
        weights[name] = noise.numpy()
    return weights


def make_bundle(folder: Path, model: str = "edge", *, seed: int = 0) -> Bundle:
    """Write and open the bundle of one of the factories above."""
    return create_bundle(
        folder / model,
        model=f"tests.tiny:{model}",
        weights=weights_of(globals()[model](), seed),
        shape=SHAPE,
        classes=CLASSES,
        preprocessing=PREPROCESSING,
    )


def make_generator() -> np.random.Generator:
    """The randomness of one learning step."""
    return np.random.default_rng(0)


def make_images(count: int, seed: int = 0) -> Pixels:
    """Random images: uint8 (count, 8, 8, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def write_stream(file: Path, count: int, seed: int = 0, *, classes: int = len(CLASSES)) -> Path:
    """Write a stream of random images, with labels of the first classes, as .npz."""
    labels = np.arange(count) % classes
    np.savez(file, x=make_images(count, seed), y=labels)
    return file


def make_batch(
    images: Pixels, *, model: str, device: str = "cam-1", cohort: str = "", seq: int = 1,
    session: str = SESSION, oldest_seq: int = 1, clock_ns: int = NOW_NS,
) -> SampleBatch:  # fmt: skip
    """A sample batch a device might send."""
    count = len(images)
    return SampleBatch(
        device=device,
        session=session,
        seq=seq,
        clock_ns=clock_ns,
        model=model,
        oldest_seq=oldest_seq,
        cohort=cohort or device,
        images=pack_images(images),
        columns=pack_columns(
            np.arange(count, dtype=np.uint64),
            np.full(count, 0.5, dtype=np.float32),
            np.zeros(count, dtype=np.uint16),
        ),
    )


def moved(source: AdaptableState, by: float = 0.125) -> dict[str, NDArray[np.float32]]:
    """The state with every value moved a little."""
    return {name: np.asarray(array + np.float32(by)) for name, array in source.items()}


def make_manifest(
    bundle: Bundle, *, version: int = 1, by: float = 0.125, cohort: str = "cam-1",
    group: str = "default", rollback: bool = False, expires_ns: int = NOW_NS + DAY_NS,
) -> Manifest:  # fmt: skip
    """A version that moves every adaptable array of the bundle."""
    delta = encode_delta(bundle.source, moved(bundle.source, by))
    return Manifest(
        group=group,
        cohort=cohort,
        model=bundle.digest,
        source=bundle.manifest.source_digest,
        version=version,
        parent=bundle.manifest.source_digest,
        result=digest_arrays(applied(bundle, by)),
        created_ns=NOW_NS,
        expires_ns=expires_ns,
        newest_sample_ns=NOW_NS,
        rollback=rollback,
        provenance=Provenance(
            method="cema", config="0" * 16, software="test", trained_samples=0, batches=()
        ),
        delta=delta,
    )


def applied(bundle: Bundle, by: float = 0.125) -> dict[str, NDArray[np.float32]]:
    """What a manifest of `make_manifest` leads to, computed without `apply_delta`."""
    state = {}
    for name, array in bundle.source.items():
        difference = (array + np.float32(by)) - array
        state[name] = np.asarray(array + difference.astype(np.float16).astype(np.float32))
    return state


def make_head(manifest: Manifest, *, device: str = "cam-1", key: Ed25519PrivateKey = KEY) -> Head:
    """The signed head of a manifest."""
    encoded, signature = sign_manifest(manifest, key)
    return Head(
        device=device,
        session=CLOUD_SESSION,
        seq=1,
        clock_ns=NOW_NS,
        model=manifest.model,
        manifest=encoded,
        signature=signature,
        key=key.public_key().public_bytes_raw(),
    )


def make_ack(
    stored_seq: int, *, device: str = "cam-1", session: str = SESSION, model: str = "0" * 64
) -> Ack:
    """An ack without refusals."""
    return Ack(
        device=device,
        session=CLOUD_SESSION,
        seq=1,
        clock_ns=NOW_NS,
        model=model,
        of_session=session,
        stored_seq=stored_seq,
        settled_seq=stored_seq,
        version=0,
    )


@dataclass
class Ticks:
    """A monotonic clock in a test's hand."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s
