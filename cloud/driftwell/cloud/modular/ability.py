"""Pure. Which modules shall answer which sub-task: the assignment of ability-enhancing training.

After joint training the modules of a layer share all sub-tasks out among them, but loosely. The
assignment gives each sub-task the few modules it already uses most, and each module few
sub-tasks, so that a device with few sub-tasks needs few modules (Nebula, ICPP 2024, section 4.3):

    maximise sum_tn h_tn m_tn,   sum_n m_tn = modules_per_task,   sum_t m_tn <= tasks_per_module

with m in {0, 1} and h_tn the mean gate of module n over sub-task t. The paper's load limit is on
sum_t h_tn m_tn, with a bound it does not give; ours counts sub-tasks, which needs no scale.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

HALF: Final = 0.5
"""Between the solver's zeros and ones."""
UNUSED: Final = 1e-12
"""Load that is none."""
SLACK: Final = 1.25
"""Sub-tasks a module may take, over an even share."""


def tasks_per_module(tasks: int, modules: int, modules_per_task: int) -> int:
    """How many sub-tasks a module takes at most: an even share and a quarter, rounded up."""
    return min(tasks, math.ceil(tasks * modules_per_task / modules * SLACK))


def assign_modules(
    load: NDArray[np.float64], *, modules_per_task: int, limit: int
) -> NDArray[np.bool_]:
    """The assignment, bool (T, N), with the highest load that keeps within the limits.

    Args:
        load: h, (T, N), at least 0 and finite.
        modules_per_task: Modules of each sub-task, 1 to N.
        limit: Sub-tasks of a module at most; T * modules_per_task <= N * limit.

    Raises:
        ValueError: if the load is no such array, or no assignment keeps within the limits.
    """
    tasks, modules = load.shape
    if not (np.isfinite(load).all() and (load >= 0).all()):
        raise ValueError("the load must be finite and at least 0")
    if not 1 <= modules_per_task <= modules or tasks * modules_per_task > modules * limit:
        raise ValueError(
            f"{tasks} sub-tasks with {modules_per_task} of {modules} modules each do not fit, if "
            f"a module takes {limit}"
        )
    from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import: only where used

    by_task = np.kron(np.eye(tasks), np.ones(modules))
    by_module = np.kron(np.ones(tasks), np.eye(modules))
    found = milp(
        -load.ravel(),
        integrality=np.ones(load.size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(by_task, modules_per_task, modules_per_task),
            LinearConstraint(by_module, 0, limit),
        ],
    )
    return np.asarray(found.x.reshape(tasks, modules) > HALF)


def gate_labels(load: NDArray[np.float64], assigned: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What the gates shall be, (T, N), each row with sum 1: the load of the assigned modules.

    Where a sub-task has used none of its modules so far, they share evenly.
    """
    labels = np.where(assigned, load, 0.0)
    sums = labels.sum(axis=1, keepdims=True)
    even = assigned / assigned.sum(axis=1, keepdims=True)
    return np.asarray(np.where(sums > UNUSED, labels / np.maximum(sums, UNUSED), even))
