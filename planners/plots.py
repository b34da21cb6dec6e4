"""The picture of a plan: cost by iteration, and the candidates' paths from above."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import ArrayLike

from planners.costs.base import planar_path
from planners.planner import PlanResult
from v2w_core.spec import ActionSpec


def plan_plot(
    plan: PlanResult,
    spec: ActionSpec,
    *,
    recorded: ArrayLike | None = None,
    goal: ArrayLike | None = None,
) -> bytes:
    """PNG bytes; the paths are drawn in the body frame, x (ahead) upwards, y to the left.

    Args:
        plan: from ``Planner.plan``.
        spec: the action space; without dx, dy, dyaw only the cost is drawn.
        recorded: poses [N, 3] of what was driven instead.
        goal: pose [3] (x m, y m, yaw rad), where it is known.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    iterations = np.arange(1, len(plan.cost_curve) + 1)
    left.plot(iterations, plan.cost_curve, marker="o")
    left.set(title="best cost so far", xlabel="iteration", ylabel="cost", xticks=iterations)
    left.grid(alpha=0.3)
    if plan.poses is None:
        right.set_axis_off()
    else:
        paths = planar_path(plan.candidates[plan.ranking[::-1]], spec)  # the best on top
        for rank, path in enumerate(paths):
            shade = str(0.88 - 0.5 * rank / max(len(paths) - 1, 1))
            right.plot(path[:, 1], path[:, 0], color=shade, linewidth=0.8)
        if recorded is not None:
            driven = np.asarray(recorded)
            right.plot(driven[:, 1], driven[:, 0], color="tab:green", label="recorded", marker=".")
        best = plan.poses
        right.plot(best[:, 1], best[:, 0], color="tab:red", label="plan", marker=".")
        if goal is not None:
            x, y, yaw = (float(value) for value in np.asarray(goal))
            right.plot(y, x, "*", color="tab:blue", markersize=13, label="goal")
            right.plot([y, y + 0.3 * np.sin(yaw)], [x, x + 0.3 * np.cos(yaw)], color="tab:blue")
        right.set(title="candidates of the last iteration", xlabel="y, left (m)", ylabel="x (m)")
        right.set_aspect("equal", adjustable="datalim")
        right.invert_xaxis()
        right.legend(fontsize="small")
        right.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
