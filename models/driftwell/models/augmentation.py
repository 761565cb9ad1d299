"""Pure. Other views of an image that show the same thing in the same domain.

Only what leaves the domain as it is: a mirror image and a shift by a few pixels. Noise,
blur or colour would add another shift to the one that is to be learned; mixed images were
tried and made the edge model worse (benchmarks/ablation.md).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def augment(inputs: Tensor, generator: np.random.Generator, *, mirrors: bool, shift: int) -> Tensor:
    """Random views of a batch: float32 (N, C, H, W) -> the same shape, channels last.

    Args:
        inputs: The batch.
        generator: Draws a mirroring for each image and one shift for all.
        mirrors: Whether left and right may change places.
        shift: Pixels at most in each direction; the border is reflected.
    """
    if mirrors:
        chosen = torch.from_numpy(generator.random(len(inputs)) < 0.5)  # noqa: PLR2004
        inputs = torch.where(chosen[:, None, None, None], inputs.flip(3), inputs)
    reach = min(shift, inputs.shape[2] - 1, inputs.shape[3] - 1)
    if reach > 0:
        down, right = (int(offset) for offset in generator.integers(0, 2 * reach + 1, 2))
        padded = functional.pad(inputs, (reach,) * 4, mode="reflect")
        height, width = inputs.shape[2:]
        inputs = padded[:, :, down : down + height, right : right + width]
    return inputs.contiguous(memory_format=torch.channels_last)
