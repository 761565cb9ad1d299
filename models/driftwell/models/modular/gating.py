"""Gates: how much of its answer a layer takes from each of its modules.

From the selector's scores to gates: the `active` modules with the highest scores share the
answer by a softmax over their scores, the others get nothing (Shazeer et al., ICLR 2017,
section 2.1). Modules that a sub-model does not hold cannot be chosen. Of equals the first is taken.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

AWAY: Final = float("-inf")


def open_gates(scores: Tensor, *, active: int, available: Tensor | None = None) -> Tensor:
    """Gates (N, M) from scores (N, M), at least 0, with sum 1 a row and `active` at most above 0.

    Args:
        scores: Of all modules of a layer.
        active: How many may share, at least 1.
        available: bool (M,) or (N, M), with at least one true a row; None: all are.
    """
    if available is not None:
        scores = scores.masked_fill(~available, AWAY)
    # All share: in a small sub-model always, and at a third of the time.
    if active >= scores.shape[1]:
        return torch.softmax(scores, dim=1)
    count = active
    # Stable: where a selector knows no difference yet, every machine takes the same ones.
    ranked, order = scores.sort(dim=1, descending=True, stable=True)
    highest, places = ranked[:, :count], order[:, :count]
    gates = torch.zeros_like(scores)
    return gates.scatter(1, places, torch.softmax(highest, dim=1))


def noisy(scores: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """Scores with noise, so that modules which are seldom chosen are tried, too.

    z + e * softplus(s), e ~ N(0, 1) (Shazeer et al., ICLR 2017, equation 4).

    Args:
        scores: (N, M), the z.
        spread: (N, M), the s.
        generator: On the CPU.
    """
    noise = torch.randn(scores.shape, generator=generator)
    return scores + noise * functional.softplus(spread)


def squared_variation(amounts: Tensor) -> Tensor:
    """The squared coefficient of variation of amounts (M,): 0 if all are alike.

    As importance or load loss of Shazeer et al., ICLR 2017, equations 7 and 11.
    """
    mean = amounts.mean()
    return (amounts - mean).square().mean() / (mean.square() + 1e-10)


def expected_load(clean: Tensor, noisy_scores: Tensor, spread: Tensor, *, active: int) -> Tensor:
    """How many rows of a batch choose each module, (M,), smoothly in the scores.

    The probability that a module's score, with new noise of its own, is among the `active`
    highest (Shazeer et al., ICLR 2017, equations 8 to 10). All arguments are (N, M).
    """
    if active >= clean.shape[1]:
        return torch.full_like(clean[0], len(clean))
    highest = noisy_scores.topk(active + 1, dim=1).values
    last_in, first_out = highest[:, active - 1 : active], highest[:, active : active + 1]
    is_in = noisy_scores >= last_in
    threshold = torch.where(is_in, first_out, last_in)
    scale = functional.softplus(spread) + 1e-6
    return torch.as_tensor(torch.special.ndtr((clean - threshold) / scale)).sum(dim=0)
