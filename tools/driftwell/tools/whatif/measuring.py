"""Pure. Numbers and curves of one variant, from what was counted while it ran."""

import numpy as np

from driftwell.tools.virtual.tally import Tally
from driftwell.tools.whatif.curves import draw_curves
from driftwell.tools.whatif.results import Outcome, Result


def measure(tally: Tally, variant: str, **known: float | None) -> Outcome:
    """The counted numbers, and others that are known under `Result`'s names."""
    correct = tally.correct
    numbers: dict[str, float | None] = {
        "uploads": tally.uploads,
        "bytes_up": tally.bytes_up,
        "bytes_down": tally.bytes_down,
        "lag_s_p50": float(np.median(tally.lags_s)) if tally.lags_s else None,
        "versions": len(tally.made),
        "applied": tally.applied,
        "refused": tally.refused,
        **known,
    }
    result = Result(
        variant=variant,
        n=tally.n,
        labelled=len(correct),
        accuracy=round(100.0 * float(correct.mean()), 3) if len(correct) else None,
        made=tuple(sorted(tally.made, key=lambda one: (one.cohort, one.version))),
        **numbers,  # type: ignore[arg-type]
    )
    return Outcome(result, draw_curves(correct, tally.steps, began_ns=tally.began_ns))
