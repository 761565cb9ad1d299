"""Pure. Whether a sample batch may be learned from; if not, its refusal code."""

import numpy as np

from driftwell.messages.errors import ArrayError, MalformedError, RefusalCode
from driftwell.messages.images import Pixels, unpack_images
from driftwell.messages.samples import SampleBatch, require_image_shape, unpack_columns
from driftwell.models.manifest import BundleManifest


def admit(batch: SampleBatch, *, model: str, manifest: BundleManifest) -> Pixels:
    """Check a decoded batch against the edge model and return its images.

    Args:
        batch: As decoded.
        model: Digest of the edge bundle this cloud adapts.
        manifest: That bundle's manifest.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        WireError: `wrong-model`, `bad-array` or `not-finite`.
    """
    if batch.model != model:
        raise MalformedError(
            f"samples are of model {batch.model[:12]}, this cloud adapts {model[:12]}",
            RefusalCode.WRONG_MODEL,
        )
    if batch.seq == 0:
        raise MalformedError("samples were never numbered")
    require_image_shape(batch, manifest.input.shape)
    columns = unpack_columns(batch)
    if int(np.max(columns["prediction"])) >= len(manifest.classes):
        raise ArrayError(f"a prediction is not one of {len(manifest.classes)} classes")
    return unpack_images(batch.images)
