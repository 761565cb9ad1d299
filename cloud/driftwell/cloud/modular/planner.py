"""Pure. Which modules of a modular model a device gets, and when that is asked anew.

After the derivation of sub-models in ECLM (Nebula, ICPP 2024). Layer l has N_l modules that can
stand in for each other. With importance w, costs c, the trunk's cost t and limits b, z says which
modules are taken:

    maximise  sum_li w_li z_li    so that    t_r + sum_li c_rli z_li <= b_r  for each limit r,
                                             z_li in {0, 1},  z_l,best(l) = 1

best(l) is the most important module of layer l, of equals the first. Where the best of all layers
do not fit together, sum_i z_li >= 1 takes the place of the last condition: a smaller sub-model
is better than none, and the plan says so (`has_best`). Modules without importance are left out.

What HiGHS finds in a time limit depends on the machine. Only an `exact` plan and one by
`choose_greedily` follow from the inputs alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.modular.knapsack import Choice, Knapsack, Values, fill, first_choice, solve
from driftwell.messages.errors import InfeasibleBudgetError

MEMORY, LATENCY = "memory_bytes", "latency_ms"
"""Resources that a sub-model goes on taking."""
DOWNLOAD: Final = "download_bytes"
"""The resource that is spent once, when a plan is carried out; what a device holds costs none."""

Layers = Sequence[NDArray[np.float64]]
Method = Literal["exact", "feasible", "greedy"]


@dataclass(frozen=True, slots=True, eq=False)
class ResourceCost:
    """What a sub-model takes of one resource, in the resource's unit; all finite and >= 0."""

    modules: Layers
    """L arrays (N_l,): what each module adds."""
    trunk: float = 0.0
    """What stem, selector and head take, which every sub-model has."""


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """The modules of a sub-model, and what it comes to."""

    modules: tuple[frozenset[int], ...]
    """Numbers of the modules of each layer, 0 to N_l - 1; at least one a layer."""
    importance: float
    """Their sum; at most about L."""
    costs: Mapping[str, float]
    """Trunk and modules, of every resource, in its unit."""
    limits: Mapping[str, float]
    """What was planned with."""
    method: Method
    """`exact`: no other plan is better, but for tolerances of HiGHS (about 1e-10 in importance).
    `feasible`: the best that HiGHS had when its time was up. `greedy`: it had none, or a worse."""
    has_best: bool
    """Whether the most important module of every layer is in it, as ECLM asks."""


def plan_modules(
    importance: Layers,
    costs: Mapping[str, ResourceCost],
    limits: Mapping[str, float],
    *,
    time_limit_s: float = 1.0,
) -> ModulePlan:
    """The most important modules within a device's limits.

    Args:
        importance: L >= 1 arrays (N_l,), N_l >= 1, finite and >= 0: the mean gate probability of
            each module on the device's own data, about 1 a layer in sum.
        costs: What each resource is needed for, by its name.
        limits: How much the device has of each resource, > 0; one without a limit is left out.
        time_limit_s: How long HiGHS may search, > 0; twice that if rounding is in its way.

    Raises:
        ValueError: if lengths differ, a number is out of its range, or a limit is of a resource
            that is not in `costs`.
        InfeasibleBudgetError: if no sub-model is within the limits, or none was found.
    """
    if not (math.isfinite(time_limit_s) and time_limit_s > 0):
        raise ValueError(f"a time limit of {time_limit_s} s")
    knapsack = _read(importance, costs, limits)
    _check_each_limit(knapsack)
    start = first_choice(knapsack)
    greedy = fill(knapsack, start) if knapsack.fits(start) else None
    has_best = bool(start[knapsack.best()].all()) and greedy is not None
    if greedy is not None and has_best and greedy[knapsack.importance > 0].all():
        return _plan(knapsack, greedy, "exact")  # nothing is left to choose
    taken, is_final = solve(knapsack, time_limit_s, forced=start if has_best else None)
    if taken is not None and is_final:
        return _plan(knapsack, taken, "exact")
    if taken is not None and (greedy is None or knapsack.worth(taken) > knapsack.worth(greedy)):
        return _plan(knapsack, taken, "feasible")
    if greedy is not None:
        return _plan(knapsack, greedy, "greedy")
    raise _refusal(knapsack, knapsack.over(start), is_proven=is_final)


def choose_greedily(
    importance: Layers,
    costs: Mapping[str, ResourceCost],
    limits: Mapping[str, float],
) -> ModulePlan:
    """A plan without a solver: the best of each layer, then by importance per normalised cost.

    The arguments are those of `plan_modules`. How: `first_choice` and `fill`.

    Raises:
        ValueError: as `plan_modules`.
        InfeasibleBudgetError: if it finds no sub-model within the limits; there may be one,
            unless `is_proven`.
    """
    knapsack = _read(importance, costs, limits)
    _check_each_limit(knapsack)
    start = first_choice(knapsack)
    if not knapsack.fits(start):
        raise _refusal(knapsack, knapsack.over(start), is_proven=False)
    return _plan(knapsack, fill(knapsack, start), "greedy")


def _read(
    importance: Layers,
    costs: Mapping[str, ResourceCost],
    limits: Mapping[str, float],
) -> Knapsack:
    weights = [_amounts("importance", one) for one in importance]
    sizes = [len(one) for one in weights]
    if not sizes or 0 in sizes:
        raise ValueError("a model has a layer at least, and a layer a module")
    table = np.zeros((len(costs), sum(sizes)))
    for row, (name, cost) in enumerate(costs.items()):
        parts = [_amounts(name, one) for one in cost.modules]
        if [len(part) for part in parts] != sizes:
            raise ValueError(f"{name}: its layers or modules are not those of the importance")
        table[row] = np.concatenate(parts)
    if unknown := sorted(limits.keys() - costs.keys()):
        raise ValueError(f"limits of {', '.join(unknown)}, of which no cost is known")
    if not all(math.isfinite(limit) and limit > 0 for limit in limits.values()):
        raise ValueError(f"limits must be finite and above 0: {dict(limits)}")
    return Knapsack(
        resources=tuple(costs),
        importance=np.concatenate(weights),
        layer=np.repeat(np.arange(len(sizes)), sizes),
        costs=table,
        trunk=_amounts("trunk", [cost.trunk for cost in costs.values()]),
        limits=np.array([limits.get(name, np.inf) for name in costs]),
    )


def _amounts(name: str, values: Values | list[float]) -> Values:
    amounts = np.asarray(values, np.float64)
    if amounts.ndim != 1 or not np.isfinite(amounts).all() or (amounts < 0).any():
        raise ValueError(f"{name}: needs rows of finite numbers, none below 0")
    return amounts


def _plan(knapsack: Knapsack, taken: Choice, method: Method) -> ModulePlan:
    parts = (taken[knapsack.layer == layer] for layer in range(int(knapsack.layer[-1]) + 1))
    return ModulePlan(
        modules=tuple(frozenset(np.flatnonzero(part).tolist()) for part in parts),
        importance=knapsack.worth(taken),
        costs=_named(knapsack, knapsack.spent(taken)),
        limits=_limits(knapsack),
        method=method,
        has_best=bool(taken[knapsack.best()].all()),
    )


def _named(knapsack: Knapsack, amounts: Values) -> dict[str, float]:
    return dict(zip(knapsack.resources, amounts.tolist(), strict=True))


def _limits(knapsack: Knapsack) -> dict[str, float]:
    every = _named(knapsack, knapsack.limits)
    return {name: limit for name, limit in every.items() if math.isfinite(limit)}


def _check_each_limit(knapsack: Knapsack) -> None:
    """Refuse at once where not even the smallest sub-model is within some limit."""
    needs: dict[str, float] = {}
    for name in knapsack.resources:
        over = knapsack.over(knapsack.smallest(name))
        needs |= {name: over[name]} if name in over else {}
    if needs:
        raise _refusal(knapsack, needs, is_proven=True)


def _refusal(
    knapsack: Knapsack, needs: Mapping[str, float], *, is_proven: bool
) -> InfeasibleBudgetError:
    smallest = {name: _named(knapsack, knapsack.spent(knapsack.smallest(name))) for name in needs}
    return InfeasibleBudgetError(needs, _limits(knapsack), smallest, is_proven=is_proven)


class ReplanSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a sub-model is derived anew; so that limits that wobble cost no downloads."""

    rise: Annotated[float, msgspec.Meta(ge=1)] = 1.2
    """A limit has risen if it is above this many times what was planned with."""
    patience_s: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """How long it must stay risen."""


@dataclass(frozen=True, slots=True)
class LimitWatch:
    """What is remembered between a plan and the next."""

    costs: Mapping[str, float]
    """What the sub-model goes on taking, by resource."""
    planned: Mapping[str, float]
    """The limits it was planned with."""
    risen_s: Mapping[str, float] = field(default_factory=dict)
    """Since when, by the caller's clock, each of the limits that have risen has stayed so."""
    reason: Literal["", "fallen", "risen"] = ""
    """Why the sub-model should be derived anew, at the last look; empty: it should not."""

    @property
    def is_due(self) -> bool:
        """Whether the sub-model should be derived anew."""
        return self.reason != ""


def watch_plan(plan: ModulePlan) -> LimitWatch:
    """Begin to watch the limits of a device that got a plan's sub-model.

    Its DOWNLOAD is over then: a smaller limit of it takes nothing from the device.
    """
    costs = {name: cost for name, cost in plan.costs.items() if name != DOWNLOAD}
    return LimitWatch(costs, plan.limits)


def watch_limits(
    settings: ReplanSettings, watch: LimitWatch, present: Mapping[str, float], *, now_s: float
) -> LimitWatch:
    """Look at a device's present limits, and say whether it should be planned for anew.

    At once if one is below what the sub-model costs. If one has risen, only when it has stayed
    risen for `patience_s`; each waits for itself. A limit that is gone has risen, a new one not.

    Args:
        settings: How patient.
        watch: From `watch_plan`, or from the last look.
        present: The limits now, each >= 0; one without a limit is left out.
        now_s: Of a clock that does not go back; if it does, the wait begins anew.

    Raises:
        ValueError: if a limit is negative or not a number.
    """
    if not all(limit >= 0 for limit in present.values()):  # NaN is not
        raise ValueError(f"limits must be numbers, none below 0: {dict(present)}")
    risen_s = {
        name: min(watch.risen_s.get(name, now_s), now_s)
        for name, limit in watch.planned.items()
        if present.get(name, math.inf) > settings.rise * limit
    }
    reason: Literal["", "fallen", "risen"] = ""
    if any(limit < watch.costs.get(name, 0.0) for name, limit in present.items()):
        reason = "fallen"
    elif any(now_s - since_s >= settings.patience_s for since_s in risen_s.values()):
        reason = "risen"
    return replace(watch, risen_s=risen_s, reason=reason)
