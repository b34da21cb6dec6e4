"""The golden values by group: each a function that gives JSON-ready values by name."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import golden_api as api

Values = dict[str, Any]
NUM_STEPS = 20  # of every training


class Shared:
    """What several groups use.

    Args:
        folder: for files that nobody needs afterwards.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def model(self) -> Any:
        """The default model, on the eager back end."""
        return api.default_model()

    @cached_property
    def onnx(self) -> Any:
        """The same on ONNX Runtime."""
        model = api.default_model()
        api.use_backend(model, "onnx", self.folder / "engines")
        return model

    def empty(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def hashed(value: torch.Tensor) -> Values:
    """SHA-256 over the float32 bytes; the other figures show how far apart two of them are."""
    array = np.ascontiguousarray(value.detach().float().numpy())
    some = array.ravel()[np.linspace(0, array.size - 1, 5).astype(int)]
    return {
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        "shape": list(array.shape),
        "mean": float(array.mean(dtype=np.float64)),
        "std": float(array.std(dtype=np.float64)),
        "some": some.tolist(),
    }


def pictures(model: Any, number: int, seed: int = 0) -> NDArray[np.uint8]:
    """Coarse random blocks that move to the left [number, H, W, 3]."""
    size = model.config.observation
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = np.kron(blocks, np.ones((size.height // 8, size.width // 8, 1), np.uint8))
    return np.stack([np.roll(picture, -2 * step, axis=1) for step in range(number)])


def actions(model: Any, *shape: int, seed: int = 1) -> NDArray[np.float32]:
    """Physical actions [*shape, A] within the bounds."""
    spec = model.config.action
    drawn = np.random.default_rng(seed).uniform(spec.low, spec.high, (*shape, spec.dim))
    return drawn.astype(np.float32)


def rollout(
    model: Any, candidates: int, horizon: int, *, appended: int = 0, seed: int = 5, **asked: Any
) -> Values:
    """Latents after a history that ``appended`` more frames have joined."""
    known = model.config.num_history
    frames, told = pictures(model, known + appended), actions(model, known + appended - 1, seed=2)
    session = model.start(frames[:known], told[: known - 1], seed=seed)
    for frame, action in zip(frames[known:], told[known - 1 :], strict=True):
        session.append(frame, action)
    return hashed(api.imagine(session, actions(model, candidates, horizon), **asked).latents)


def rollouts(shared: Shared) -> Values:
    """Rollouts of the default model on two back ends, and of a tiny one without a cache."""
    found = {f"{name} {backend}": value
             for backend, model in (("eager", shared.model), ("onnx", shared.onnx))
             for name, value in cached_rollouts(model).items()}  # fmt: skip
    return {**found, **{f"{k} window": v for k, v in window_rollouts(api.window_model()).items()}}


def cached_rollouts(model: Any) -> Values:
    guided = {"num_sampling_steps": 2, "guidance_scale": 1.5}
    found = {
        "plain": rollout(model, 6, 8),
        "another seed": rollout(model, 6, 8, seed=6),
        "guided": rollout(model, 6, 8, **guided),
        "screened": rollout(model, 9, 8, **api.screening(2, 3)),
        "screened guided": rollout(model, 9, 8, **guided, **api.screening(2, 3)),
        "screened coarsely": rollout(model, 9, 8, num_sampling_steps=2, **api.screening(2, 3, 1)),
        "screened in parts": rollout(model, 9, 8, batch_size=4, **api.screening(2, 3)),
        "one by one": rollout(model, 6, 8, batch_size=1),
        "past the window, batch of 2": rollout(model, 3, 14, batch_size=2),
        "appended": rollout(model, 3, 5, appended=3),
    }
    with api.sampling(model, eta=0.5, guidance_rescale=0.7):
        found["noise added, rescaled"] = rollout(model, 3, 4, **guided)
    for window in ("ring", "recompute"):
        for history in ("held", "denoised"):
            name = f"{window}, {history}"
            with api.sampling(model, past_window=window, imagined_history=history):
                found[f"inside the window, {name}"] = rollout(model, 3, 8)
                found[f"past the window, {name}"] = rollout(model, 3, 14)
                found[f"past the window, screened, {name}"] = rollout(
                    model, 6, 14, **api.screening(10, 3)
                )
        with api.sampling(model, past_window=window):
            found[f"appended past the window, {window}"] = rollout(model, 3, 5, appended=12)
    with api.sampling(model, past_window="ring", num_sinks=2):
        found["past the window, ring, 2 sinks"] = rollout(model, 3, 14)
        found["appended past the window, ring, 2 sinks"] = rollout(model, 3, 5, appended=12)
    return found


def window_rollouts(model: Any) -> Values:
    return {
        "plain": rollout(model, 3, 4),
        "unguided": rollout(model, 3, 4, guidance_scale=1.0),
        "more steps": rollout(model, 2, 3, num_sampling_steps=3),
        "screened": rollout(model, 3, 3, **api.screening(2, 2)),
        "screened coarsely": rollout(model, 3, 3, num_sampling_steps=3, **api.screening(2, 2, 1)),
        "in parts": rollout(model, 3, 4, batch_size=2),
        "appended": rollout(model, 2, 2, appended=2),
        "appended past the window": rollout(model, 2, 2, appended=5),
    }


def plans(shared: Shared) -> Values:
    """Plans of every optimiser to every goal, and closed loops."""
    model, found = shared.model, {}
    seen = observation(model)
    goals: dict[str, Callable[[], Any]] = {  # a new one each: it remembers what it was asked for
        "image": lambda: api.image_goal(model, goal_picture(model)),
        "pose": lambda: api.PoseGoal(GOAL_POSE),
    }
    for goal_name, goal in goals.items():
        for optimizer in ("cem", "mppi", "cma_es"):
            for screened in (False, True):
                planner = api.planner(model, optimizer, screened=screened, horizon=4)
                name = f"{goal_name} {optimizer}{' screened' if screened else ''}"
                found[name] = plan(model, planner, goal().cost(seen))
    for name, cost in api.image_costs(model, goal_picture(model)).items():
        found[f"{name} cem"] = plan(model, api.planner(model, "cem", horizon=4), cost)
    limited = api.planner(model, "cem", horizon=4, max_change=(0.2, 0.1, 0.3))
    known = {"warm_start": actions(model, 4, seed=4), "previous_action": seen.actions[-1]}
    cost = goals["image"]().cost(seen)
    found["image cem, warm start, rate limits"] = plan(model, limited, cost, **known)
    screening = api.planner(model, "cem", screened=True, horizon=4)
    found["image cem screened onnx"] = plan(shared.onnx, screening, cost)
    found["closed loop, image"] = closed_loop_image(model)
    found["closed loop, pose, a wall"] = closed_loop_pose(model)
    return found


GOAL_POSE = (0.8, 0.3, 0.4)


def goal_picture(model: Any) -> NDArray[np.uint8]:
    return pictures(model, 9)[-1]


def observation(model: Any) -> Any:
    known = model.config.num_history
    return api.Observation(pictures(model, known), actions(model, known - 1, seed=2), (0, 0, 0))


def plan(model: Any, planner: Any, cost: Any, **known: Any) -> Values:
    """16 candidates, 2 iterations, no deadline."""
    seen = observation(model)
    session = model.start(seen.frames, seen.actions, seed=0)
    result = planner.plan(session, cost, num_iterations=2, num_candidates=16, seed=3, **known)
    return {
        "actions": result.action_sequence.tolist(),
        "cost": result.cost,
        "cost_curve": list(result.cost_curve),
        "costs": hashlib.sha256(result.costs.tobytes()).hexdigest(),
        "frames_imagined": result.frames_imagined,
        "latents": hashed(result.latents),
    }


def closed_loop_image(model: Any) -> Values:
    """Towards a goal image, where the world is what the model imagines."""
    planner = api.planner(model, "cem", screened=True, horizon=4)
    goal = api.image_goal(model, goal_picture(model))
    mpc = api.MPC(planner, goal, model, num_execute=2, num_candidates=16, num_iterations=2)

    def step(frames: Any, told: Any, action: Any, pose: Any) -> tuple[Any, Any]:
        session = model.start(frames, told, seed=7)
        return session.imagine(action[None, None]).frames()[0, 0], moved(pose, action)

    return drive(model, mpc, step, num_decisions=4)


def closed_loop_pose(model: Any) -> Values:
    """Towards a pose, without a model, along a wall at x = 0.5 m that is learned by touching it."""
    planner = api.planner(model, "cem", horizon=6)
    mpc = api.MPC(planner, api.PoseGoal(GOAL_POSE), num_candidates=32, learn_blocked_motion=True)

    def step(frames: Any, told: Any, action: Any, pose: Any) -> tuple[Any, Any]:
        x, y, yaw = moved(pose, action)
        return frames[-1], (min(x, 0.5), y, yaw)

    return drive(model, mpc, step, num_decisions=6)


def drive(model: Any, mpc: Any, step: Callable[..., Any], num_decisions: int) -> Values:
    """Actions, costs and poses of a receding horizon."""
    seen, known = observation(model), model.config.num_history
    frames, told, poses, costs = list(seen.frames), list(seen.actions), [(0.0, 0.0, 0.0)], []
    distances = []
    for _ in range(num_decisions):
        now = np.stack(frames[-known:]), np.stack(told[1 - known :]), poses[-1]
        decision = mpc.decide(api.Observation(*now))
        distances.append(decision.arrival.distance)
        costs.append(None if decision.plan is None else decision.plan.cost)
        for action in decision.actions:
            now = np.stack(frames[-known:]), np.stack(told[1 - known :])
            frame, pose = step(*now, action, poses[-1])
            frames.append(frame)
            told.append(action)
            poses.append(pose)
    executed = [action.tolist() for action in told[known - 1 :]]
    return {"actions": executed, "costs": costs, "distances": distances, "poses": poses}


def moved(pose: Sequence[float], action: Any) -> tuple[float, float, float]:
    x, y, yaw = pose
    ahead, left, turn = (float(value) for value in action)
    cos, sin = math.cos(yaw), math.sin(yaw)
    return x + cos * ahead - sin * left, y + sin * ahead + cos * left, yaw + turn


def training(shared: Shared) -> Values:
    """Losses of every step and the weights afterwards, of tiny models."""
    found: Values = {}

    def run(name: str, start: Callable[[], Any]) -> Any:
        with api.losses() as logged:
            model = start()
        for stage, steps in logged.items():
            assert len(steps) == NUM_STEPS, stage
            for figure in steps[0]:
                found[f"{name}: {stage}, {figure}"] = [step[figure] for step in steps]
        if isinstance(model, torch.nn.Module):
            weights = torch.cat([v.flatten().float() for v in model.state_dict().values()])
            found[f"{name}: weights"] = hashed(weights)
        return model

    data = shared.empty()
    api.write_episodes(data, (20, 20, 20))
    stages = ("autoencoder", "world_model", "goal_distance")
    quick = [f"{s}_loop.num_steps={NUM_STEPS}" for s in stages]
    quick += [f"{s}_loop.batch_size=4" for s in stages]
    quick += ["model=tiny", "observation.height=16", "observation.width=16", "threads=1",
              "goal_distance.num_windows=8", f"data.train={data}", "data.val=null"]  # fmt: skip
    first = shared.empty()
    run("from scratch", lambda: api.train([*quick, f"out={first}"]))
    again = ["stages=[world_model]", f"init_from={first / 'checkpoint'}", "seed=1"]
    run("fine-tuned", lambda: api.train([*quick, *again, f"out={shared.empty()}"]))

    small = [*api.tiny_vid2world(), f"data.train={data}", f"vid2world_loop.num_steps={NUM_STEPS}",
             f"autoencoder_loop.num_steps={NUM_STEPS}", "vid2world.augment=true"]  # fmt: skip
    run("vid2world from scratch", lambda: api.train([*small, f"out={shared.empty()}"]))
    base = api.tiny_video_base(shared.empty() / "base")
    for mode in ("extrapolative", "masked", "shift"):
        made = [f"init_from={base}", f"transfer={mode}", "stages=[vid2world]"]
        name = f"vid2world, {mode} transfer"
        run(name, lambda made=made: api.train([*small, *made, f"out={shared.empty()}"]))
    figures = run("video", lambda: api.pretrain_video(shared.empty(), NUM_STEPS))
    found["video: validation"] = figures["loss"]
    return found


def parity(shared: Shared) -> Values:
    """Errors of the back end "onnx" against eager, and of the U-Net against the reference."""
    found: Values = {f"onnx, {k}": v for k, v in api.parity_of_backend(shared.onnx).items()}
    return {**found, **{f"recorded, {k}": v for k, v in api.recorded_errors().items()}}


def help_texts(shared: Shared) -> Values:
    """What --help prints of the program and of every command."""
    folder = shared.empty()
    start, found = api.installed(folder), {}
    path = os.pathsep.join([str(folder), str(api.ROOT), str(api.ROOT / "ros2_ws/src/v2w")])
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": path}
    for words in ([], *([name] for name in api.commands())):
        done = subprocess.run(
            [*start, *words, "--help"], env=environment, capture_output=True, text=True, check=True
        )
        digest = hashlib.sha256(done.stdout.encode()).hexdigest()
        found[" ".join(["v2w", *words])] = {"sha256": digest, "text": done.stdout.splitlines()}
    return found


GROUPS: dict[str, Callable[[Shared], Values]] = {
    "rollouts": rollouts,
    "plans": plans,
    "training": training,
    "parity": parity,
    "help": help_texts,
}
