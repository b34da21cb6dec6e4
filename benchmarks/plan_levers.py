"""What makes a plan of 64 candidates x 8 steps x 3 iterations cheaper, and what it costs.

    v2w collect runs/episodes/val --episodes 40 --steps 120 --seed 2
    python benchmarks/plan_levers.py quality --backend onnx
    python benchmarks/plan_levers.py time

quality: plans from recorded moments to the frame eight steps later, image goal. Work is counted in
passes of one frame through the network. The cost is that of the plan that was found, its frames
imagined in full; the pose error is the distance of its nearest pose to where the recording went, a
radian counted as half a metre. time: rollouts in PyTorch and on ONNX Runtime. Each writes its part
of benchmarks/results/plan_levers.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from planners.bounds import Bounds
from planners.costs.base import planar_path
from planners.deadline import Clock
from planners.goals import ImageGoal
from planners.observation import Observation
from planners.optimizers.cem import CEM
from planners.scoring import Scorer
from planners.settings import ImaginationSettings
from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.names import BACKENDS
from v2w_core.backends.parity import synthetic_actions, synthetic_session
from v2w_core.backends.registry import make_backend
from v2w_core.checkpoint import default_checkpoint
from v2w_core.config import ImaginedHistory
from v2w_core.data.episode import list_episodes, read_episode
from v2w_core.files import write_text
from v2w_core.geometry import relative_motion, wrap_angle
from v2w_core.world_model import WorldModel

RESULT = Path(__file__).resolve().parent / "results" / "plan_levers.json"
CANDIDATES, HORIZON = 64, 8
MOVED_M, MOVED_RAD = 0.5, 0.5  # a goal worth planning to is at least so far away
METRES_A_RADIAN = 0.5


@dataclass(frozen=True)
class Lever:
    """A cheaper plan.

    Attributes:
        sizes: candidates of each iteration.
        modes: of each iteration, how imagined frames become history.
        prefix, share: after ``prefix`` frames only this share of the candidates goes on.
    """

    sizes: tuple[int, ...] = (64, 64, 64)
    modes: tuple[ImaginedHistory, ...] = ("reencode", "reencode", "reencode")
    prefix: int = HORIZON
    share: float = 1.0

    def passes(self) -> int:
        """Passes of one frame through the network."""
        done = 0
        for size, mode in zip(self.sizes, self.modes, strict=True):
            each = 1 if mode == "reuse" else 2  # the last frame is never encoded again
            done += size * (each * self.prefix - (each - 1))
            done += int(self.share * size) * each * (HORIZON - self.prefix)
        return done


LEVERS = {
    "all": Lever(),
    "64, 64, 32 candidates": Lever((64, 64, 32)),
    "64, 32, 32 candidates": Lever((64, 32, 32)),
    "64, 32, 16 candidates": Lever((64, 32, 16)),
    "two iterations": Lever((64, 64), ("reencode", "reencode")),
    "half go on after 4 frames": Lever(prefix=4, share=0.5),
    "a quarter goes on after 4 frames": Lever(prefix=4, share=0.25),
    "half go on after 2 frames": Lever(prefix=2, share=0.5),
    "a quarter goes on after 3 frames": Lever(prefix=3, share=0.25),
    "a quarter goes on after 2 frames": Lever(prefix=2, share=0.25),
    "64, 32, 16, half go on after 4": Lever((64, 32, 16), prefix=4, share=0.5),
    "64, 32, 16, half go on after 2": Lever((64, 32, 16), prefix=2, share=0.5),
    "reuse": Lever(modes=("reuse",) * 3),
    "reuse, the last iteration reencode": Lever(modes=("reuse", "reuse", "reencode")),
}


class Moment:
    """A recorded moment, its goal, and the costs that were computed so far."""

    def __init__(
        self,
        model: WorldModel,
        frames: NDArray[np.uint8],
        actions: NDArray[np.float32],
        motion: NDArray[np.float64],
        seed: int,
    ) -> None:
        given = model.config.num_history
        self.model = model
        self.seed = seed
        self.motion = motion
        frames = model.preprocess(frames)
        self.seen = Observation(frames[:given], actions[: given - 1])
        self.cost = ImageGoal(model, frames[-1]).cost(self.seen)
        self._known: dict[tuple[str, bytes], float] = {}

    def costs(self, candidates: NDArray[np.float32], mode: ImaginedHistory) -> NDArray[np.float64]:
        """[K]; nothing is imagined twice."""
        keys = [(mode, row.tobytes()) for row in candidates]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            config = self.model.config
            sampling = dataclasses.replace(config.sampling, imagined_history=mode)
            self.model.config = dataclasses.replace(config, sampling=sampling)
            session = self.model.start(self.seen.frames, self.seen.actions, seed=self.seed)
            scorer = Scorer(session, self.cost, config.action, Clock(None), ImaginationSettings(),
                            self.seed, CANDIDATES)  # fmt: skip
            values = self.cost(scorer.context(candidates[new]))
            self._known.update(zip((keys[i] for i in new), map(float, values), strict=True))
        return np.array([self._known[key] for key in keys])

    def plan(self, lever: Lever) -> dict[str, float]:
        """Cost and pose error of what CEM finds."""
        spec, optimizer = self.model.config.action, CEM()
        state = optimizer.init(Bounds.from_spec(spec), HORIZON, num_candidates=CANDIDATES,
                               seed=self.seed)  # fmt: skip
        last = len(lever.sizes) - 1
        for index, (size, mode) in enumerate(zip(lever.sizes, lever.modes, strict=True)):
            candidates = optimizer.ask(state, final=index == last)[:size]
            state = optimizer.tell(state, candidates, *self._screened(candidates, mode, lever))
        best = state.best_sequence
        apart = planar_path(best, spec) - self.motion
        far = np.hypot(apart[:, 0], apart[:, 1])
        error = far + METRES_A_RADIAN * np.abs(wrap_angle(apart[:, 2]))
        return {
            "cost": float(self.costs(best[None], "reencode")[0]),
            "pose_error_m": float(error.min()),
        }

    def _screened(
        self, candidates: NDArray[np.float32], mode: ImaginedHistory, lever: Lever
    ) -> tuple[NDArray[np.float64], NDArray[np.intp] | None]:
        """Costs, infinity for those that do not go on, and the ranking by the costs of prefixes."""
        if lever.share == 1.0:
            return self.costs(candidates, mode), None
        early = self.costs(np.ascontiguousarray(candidates[:, : lever.prefix]), mode)
        order = np.argsort(early, kind="stable")
        on = order[: int(lever.share * len(candidates))]
        costs = np.full(len(candidates), np.inf)
        costs[on] = self.costs(candidates[on], mode)
        return costs, order


def moments(model: WorldModel, folder: Path, number: int) -> Sequence[Moment]:
    """Drawn at random, the same every time, where the recording leads somewhere else."""
    rng, episodes, found = np.random.default_rng(0), list_episodes(folder), []
    before = model.config.num_history - 1
    while len(found) < number:
        episode = read_episode(episodes[rng.integers(len(episodes))])
        now = int(rng.integers(before, len(episode) - HORIZON))
        motion = relative_motion(episode.poses[now], episode.poses[now + HORIZON])
        if np.hypot(*motion[:2]) < MOVED_M and abs(motion[2]) < MOVED_RAD:
            continue
        frames = episode.frames(now - before, now + HORIZON + 1)
        actions = episode.actions[now - before : now + HORIZON]
        found.append(Moment(model, frames, actions, motion, int(rng.integers(2**30))))
    return found


def quality(args: argparse.Namespace) -> dict[str, Any]:
    model = WorldModel.from_pretrained(default_checkpoint())
    model.use_backend(args.backend, BackendOptions(engines=args.engines))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in LEVERS}
    for index, moment in enumerate(moments(model, args.episodes, args.moments)):
        for name, lever in LEVERS.items():
            rows[name].append(moment.plan(lever))
        print(f"{index + 1} of {args.moments} moments", file=sys.stderr)
    everything = rows["all"]
    found = {}
    for name, plans in rows.items():
        more = [p["pose_error_m"] - e["pose_error_m"]
                for p, e in zip(plans, everything, strict=True)]  # fmt: skip
        found[name] = {
            "passes": LEVERS[name].passes(),
            "cost": float(np.mean([p["cost"] for p in plans])),
            "pose_error_m": float(np.mean([p["pose_error_m"] for p in plans])),
            "pose_error_more_m": float(np.mean(more)),
            "standard_error_m": float(np.std(more) / np.sqrt(len(more))),
        }
    return {"num_moments": args.moments, "levers": found}


def timed(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of rollouts of 64 candidates, the ways taking turns."""
    ways: dict[str, Callable[[], float]] = {}
    for mode in ("reencode", "reuse"):
        model = WorldModel.from_pretrained(default_checkpoint())
        sampling = dataclasses.replace(model.config.sampling, imagined_history=mode)
        model.config = dataclasses.replace(model.config, sampling=sampling)
        actions = synthetic_actions(model, CANDIDATES, HORIZON)
        fast = make_backend(model, "onnx", BackendOptions(engines=args.engines))
        for backend in (Eager(model.unet), fast):
            session = synthetic_session(model, backend)
            ways[f"{mode}, {backend.name}"] = lambda s=session, a=actions: s.imagine(a).elapsed_s
    for way in ways.values():
        way()
    taken = [{name: way() for name, way in ways.items()} for _ in range(args.rounds)]
    return {
        "num_threads": torch.get_num_threads(),
        "seconds_median": {n: float(np.median([t[n] for t in taken])) for n in ways},
        "seconds_min": {n: min(t[n] for t in taken) for n in ways},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"quality": quality, "time": timed}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--episodes", type=Path, default=Path("runs/episodes/val"))
    parser.add_argument("--moments", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--backend", default="eager", choices=BACKENDS, help="part quality")
    parser.add_argument("--rounds", type=int, default=10, help="part time (default: %(default)s)")
    parser.add_argument("--engines", type=Path, help="folder of engines")
    parser.add_argument("--json", type=Path, default=RESULT, metavar="FILE")
    args = parser.parse_args()
    found = parts[args.part](args)
    results = json.loads(args.json.read_text()) if args.json.is_file() else {}
    results[args.part] = found
    write_text(args.json, json.dumps(results, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
