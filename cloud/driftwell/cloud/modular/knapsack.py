"""Pure. The most important modules within limits, at least one of each layer.

A knapsack of several dimensions: M modules in one row, R resources. A choice is a mask (M,).
Two ways to choose: `fill` from a `first_choice`, and `solve` by HiGHS. Whether a choice is within
the limits is asked of `Knapsack.fits` alone, so that all who choose are held to the same sums.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SCALE: Final = 1e4
"""HiGHS takes 1e-6 for nothing, in a limit and in what it maximises. Here the largest importance,
and what a limit leaves beside the trunk, are this much: 1e-10 of either is still something."""
ROUNDS: Final = 16
"""How often at most it is asked again after a choice that is over a limit by so little."""
SMALLEST_LOSS: Final = 1e-9
"""An importance so small may be lost for nothing."""

_OPTIMAL: Final = 0
_INFEASIBLE: Final = 2

Values = NDArray[np.float64]
Choice = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Knapsack:
    """What to choose from; all finite and >= 0, but for limits."""

    resources: tuple[str, ...]
    """Their names; R."""
    importance: Values
    """(M,)."""
    layer: NDArray[np.int64]
    """(M,), 0 to L - 1, ascending; every layer has a module."""
    costs: Values
    """(R, M), in the resource's unit."""
    trunk: Values
    """(R,), what is spent before anything is chosen."""
    limits: Values
    """(R,), > 0; infinite where there is none."""

    def spent(self, taken: Choice) -> Values:
        """What a choice comes to with the trunk, (R,)."""
        return np.asarray(self.trunk + self.costs[:, taken].sum(axis=1))

    def fits(self, taken: Choice) -> bool:
        """Whether a choice is within every limit."""
        return bool((self.spent(taken) <= self.limits).all())

    def worth(self, taken: Choice) -> float:
        """The importance of a choice."""
        return float(self.importance[taken].sum())

    def best(self) -> NDArray[np.int64]:
        """Where the most important module of each layer is, of equals the first; (L,)."""
        return self._first_of_each_layer(-self.importance)

    def smallest(self, resource: str) -> Choice:
        """The cheapest module of each layer, by one resource; of equals the first."""
        row = self.resources.index(resource)
        return self.choice(self._first_of_each_layer(self.costs[row]))

    def over(self, taken: Choice) -> dict[str, float]:
        """What a choice comes to, of the resources that it is over the limit of."""
        spent = self.spent(taken)
        return {
            name: float(amount)
            for name, amount, limit in zip(self.resources, spent, self.limits, strict=True)
            if amount > limit
        }

    def choice(self, modules: NDArray[np.int64]) -> Choice:
        """The mask (M,) of some modules, given by their places in the row."""
        taken = np.zeros(len(self.layer), np.bool_)
        taken[modules] = True
        return taken

    def _first_of_each_layer(self, values: Values) -> NDArray[np.int64]:
        order = np.lexsort((values, self.layer))  # by layer, then value; it keeps ties in order
        return np.asarray(order[np.unique(self.layer, return_index=True)[1]], np.int64)


def first_choice(knapsack: Knapsack) -> Choice:
    """One module of each layer: the best, or swapped until they fit or no swap helps.

    Each swap is the one that lessens the overrun most for the importance lost. The result need
    not fit; where one resource alone is short it does, if any choice does.
    """
    limited = np.isfinite(knapsack.limits)
    costs, limits = knapsack.costs[limited], knapsack.limits[limited, None]
    present = knapsack.best()
    taken = knapsack.choice(present)
    while not knapsack.fits(taken):
        replaced = present[knapsack.layer]
        spent = knapsack.spent(taken)[limited, None]
        over = _overrun(spent, limits)
        gain = over - _overrun(spent - costs[:, replaced] + costs, limits)
        loss = np.maximum(knapsack.importance[replaced] - knapsack.importance, 0)
        module = int((gain / (loss + SMALLEST_LOSS)).argmax())
        present = present.copy()
        present[knapsack.layer[module]] = module
        swapped = knapsack.choice(present)
        # It ends: each swap lessens the overrun, and there are finitely many choices.
        if _overrun(knapsack.spent(swapped)[limited, None], limits) >= over:
            break
        taken = swapped
    return taken


def fill(knapsack: Knapsack, start: Choice) -> Choice:
    """Add to a choice that fits what fits beside it, by importance per normalised cost.

    A cost is normalised by what the start leaves of each limit, and summed over resources.
    Modules without importance are not added.
    """
    taken = start.copy()
    spare = np.maximum(knapsack.limits - knapsack.spent(start), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        weight = (knapsack.costs / spare[:, None]).sum(axis=0)
        density = knapsack.importance / weight
    useful = np.flatnonzero((knapsack.importance > 0) & ~start)
    for module in useful[np.argsort(-density[useful], kind="stable")]:
        taken[module] = True
        taken[module] = knapsack.fits(taken)
    return taken


def solve(
    knapsack: Knapsack, time_limit_s: float, *, forced: Choice | None
) -> tuple[Choice | None, bool]:
    """The best choice that HiGHS finds in its time.

    Args:
        knapsack: What to choose from.
        time_limit_s: How long it may search, > 0; as long again in all, if it must be asked again
            because its choice was over a limit by its tolerance.
        forced: Modules that are taken in any case, one of each layer at least, and that fit; None:
            at least one of each layer is taken, whichever.

    Returns:
        The choice, and whether that is the last word: no other is better. None if it has none,
        and then whether none exists.
    """
    # A tenth of a second or more, and only a cloud that plans sub-models needs it.
    from scipy.optimize import Bounds, LinearConstraint, milp

    weights = knapsack.importance
    kept = np.zeros_like(knapsack.layer, np.bool_) if forced is None else forced
    open_to = (knapsack.trunk[:, None] + knapsack.costs <= knapsack.limits[:, None]).all(axis=0)
    if forced is not None:
        open_to &= weights > 0
    room = knapsack.limits - knapsack.trunk
    limited = np.isfinite(room) & (room > 0)  # without room, only what costs nothing is open
    shares = np.where(open_to | kept, knapsack.costs[limited], 0.0) / room[limited, None]
    rows: list[Any] = []
    if limited.any():
        rows.append(LinearConstraint(SCALE * shares, -np.inf, SCALE))
    if forced is None:
        members = knapsack.layer == np.arange(knapsack.layer[-1] + 1)[:, None]
        rows.append(LinearConstraint(members.astype(np.float64), 1, np.inf))
    for turn in range(1 + ROUNDS):
        answer = milp(
            -SCALE * weights / (weights.max() or 1.0),
            integrality=np.ones(len(weights)),
            bounds=Bounds(kept.astype(np.float64), (open_to | kept).astype(np.float64)),
            constraints=rows,
            options={"time_limit": time_limit_s / (ROUNDS if turn else 1), "mip_rel_gap": 0.0},
        )
        if answer.x is None:
            return None, answer.status == _INFEASIBLE
        taken = np.asarray(answer.x > 0.5)  # noqa: PLR2004
        if answer.status != _OPTIMAL or knapsack.fits(taken):
            break
        cover = _cover(knapsack, taken)
        rows.append(LinearConstraint(cover.astype(np.float64), -np.inf, cover.sum() - 1))
    is_final = answer.status == _OPTIMAL and knapsack.fits(taken)
    within = _trim(knapsack, taken, kept)
    return (within, is_final) if knapsack.fits(within) else (None, False)


def _cover(knapsack: Knapsack, taken: Choice) -> Choice:
    """Of a choice that is over a limit, the largest modules that are over it: not all may be in."""
    row = int((knapsack.spent(taken) > knapsack.limits).argmax())
    cover = taken.copy()
    for module in np.argsort(knapsack.costs[row], kind="stable"):
        if cover[module]:
            cover[module] = False
            cover[module] = knapsack.spent(cover)[row] <= knapsack.limits[row]
    return cover


def _trim(knapsack: Knapsack, taken: Choice, kept: Choice) -> Choice:
    """Leave out what is worth nothing, and if it is over a limit, what costs of that.

    The least important first; what is kept stays, and the last module of a layer.
    """
    within = taken.copy()
    for module in np.argsort(knapsack.importance, kind="stable"):
        over = knapsack.spent(within) > knapsack.limits
        is_useless = knapsack.importance[module] == 0 or (knapsack.costs[over, module] > 0).any()
        is_alone = within[knapsack.layer == knapsack.layer[module]].sum() == 1
        if within[module] and is_useless and not kept[module] and not is_alone:
            within[module] = False
    return within


def _overrun(spent: Values, limits: Values) -> Values:
    """How far each column of (R, K) is over the limits (R, 1), relative to them, summed: (K,)."""
    return np.asarray(np.maximum(spent / limits - 1, 0).sum(axis=0))
