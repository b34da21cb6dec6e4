"""All that the golden values need of the project: where something moves, only this file changes.

Everything below is what a user calls, but for what a comment says to be internal. The small models
are those of tests/unit, the comparison with the recordings is that of tests/parity.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_image_pixel import GoalImagePixel
from planners.goals import ImageGoal, PoseGoal
from planners.mpc import MPC
from planners.observation import Observation
from planners.optimizers import make_optimizer
from planners.planner import Planner
from planners.settings import SCREENED, ImaginationSettings
from v2w_core.backends.base import BackendOptions
from v2w_core.checkpoint import default_checkpoint
from v2w_core.testing import PLANAR_4HZ, tiny_config
from v2w_core.world_model import WorldModel

ROOT = Path(__file__).resolve().parents[1]
#: Bytes for a rollout's candidates: how many are computed at once does not depend on what is free.
MEMORY = 2 << 30

__all__ = ["MPC", "Observation", "PoseGoal", "parity_of_backend", "recorded_errors"]


def test_helpers() -> None:
    """Modules of the tests can be imported from here on."""
    for folder in ("tests/unit", "tests/parity", "benchmarks"):
        if str(ROOT / folder) not in sys.path:
            sys.path.append(str(ROOT / folder))


def default_model() -> WorldModel:
    """The shipped one, on the eager back end."""
    model = WorldModel.from_pretrained(default_checkpoint())
    model.memory_budget = MEMORY
    return model


def window_model() -> WorldModel:
    """Tiny and random, of the released models' structure: statistics of the clip, no cache."""
    test_helpers()
    from core_toys import wake
    from released_toys import tiny_released_config

    model = wake(WorldModel.build(tiny_released_config(), seed=3))
    generator = torch.Generator().manual_seed(3)
    tokens = model.image_context.text_tokens
    tokens.copy_(torch.randn(tokens.shape, generator=generator))
    assert model.config.unet.norm_scope == "clip"
    return model


def use_backend(model: WorldModel, name: str, engines: Path | None = None) -> None:
    """Computes rollouts that start from here on."""
    model.use_backend(name, BackendOptions(engines=engines))


@contextmanager
def sampling(model: WorldModel, **changes: Any) -> Iterator[None]:
    """Rollouts inside are drawn with other settings."""
    config = model.config
    changed = dataclasses.replace(config.sampling, **changes)
    model.config = dataclasses.replace(config, sampling=changed)
    try:
        yield
    finally:
        model.config = config


def screening(num_frames: int, every: int, num_steps: int | None = None) -> dict[str, Any]:
    """Arguments of :func:`imagine`: only every so manyth candidate goes on after so many frames,
    which are sampled in ``num_steps``; None: in as many as the others."""
    return {"screening": (num_frames, every, num_steps)}


def imagine(
    session: Any,
    candidates: Any,
    screening: tuple[int, int, int | None] | None = None,
    **asked: Any,
) -> Any:
    """Rollouts of the candidates, or of those that go on."""
    if screening is None:
        return session.imagine(candidates, **asked)
    num_frames, every, num_steps = screening
    chosen = np.arange(0, len(candidates), every)
    if num_steps is not None:
        session.imagine(candidates[:, :num_frames], **{**asked, "num_sampling_steps": num_steps})
        return session.imagine(candidates[chosen], **asked)
    rollout = session.rollout(candidates, **asked)
    rollout.advance(num_frames)
    rollout.select(chosen)
    return rollout.advance(candidates.shape[1] - num_frames)


def planner(model: WorldModel, optimizer: str, *, screened: bool = False, **settings: Any) -> Any:
    """With an optimiser of default settings; screened as nodes and commands do."""
    imagination = SCREENED if screened else ImaginationSettings()
    chosen = make_optimizer(optimizer)
    return Planner(model.config.action, optimizer=chosen, imagination=imagination, **settings)


def image_goal(model: WorldModel, frame: Any) -> ImageGoal:
    """The learned distance where the model has one."""
    return ImageGoal(model, frame)


def image_costs(model: WorldModel, frame: Any) -> dict[str, Any]:
    """The costs of a goal image that are not learned."""
    latent = GoalImageLatent(model.encode(frame[None])[0])
    return {"latent": latent, "pixel": GoalImagePixel(model.preprocess(frame[None])[0])}


def write_episodes(folder: Path, lengths: Sequence[int]) -> None:
    """Random pictures and actions."""
    from v2w_core.data.episode import write_episode

    rng = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        write_episode(
            folder / f"{number}.h5",
            frames=rng.integers(0, 255, (length, 24, 32, 3), dtype=np.uint8),
            actions=rng.uniform(-0.2, 0.2, (length - 1, 3)).astype(np.float32),
            poses=np.zeros((length, 4)),
            stamps_ns=np.arange(length) * 250_000_000,
            action_spec=PLANAR_4HZ,
            source="test",
        )


@contextmanager
def losses() -> Iterator[dict[str, list[dict[str, float]]]]:
    """What every step of the trainings inside logs, by the name of the task.

    Internal: ``Trainer._one_step`` returns the figures of a step.
    """
    from training.trainer import Trainer

    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    one_step: Callable[[Any], dict[str, float]] = Trainer._one_step

    def noted(trainer: Any) -> dict[str, float]:
        figures = one_step(trainer)
        found[trainer.task.name].append(figures)
        return figures

    with mock.patch.object(Trainer, "_one_step", noted):
        yield found


def train(overrides: Sequence[str]) -> WorldModel:
    """What ``v2w train`` does; the model that it writes."""
    from training.train import load_settings
    from training.train import train as run

    return WorldModel.from_pretrained(run(load_settings(overrides), "v2w train"))


def tiny_vid2world() -> list[str]:
    """Settings of Vid2World's recipe, made tiny."""
    test_helpers()
    from vid2world_toys import TINY

    return list(TINY)


def tiny_video_base(folder: Path) -> Path:
    """A checkpoint of video diffusion that is not causal, of :func:`tiny_vid2world`'s sizes."""
    test_helpers()
    from vid2world_toys import small_base

    written: Path = small_base(folder)
    return written


def pretrain_video(folder: Path, num_steps: int) -> dict[str, float]:
    """Plain video diffusion on random latents; the last validation's figures.

    Internal: no command trains this stage by itself.
    """
    from training.latent_video import LatentVideo
    from training.trainer import LoopConfig, Trainer
    from training.video_pretraining import VideoDiffusionTask, video_config

    config = video_config(tiny_config(size=16))
    model = WorldModel.build(config, seed=1)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(60, *config.latent_shape, generator=generator)
    video = LatentVideo(latents, torch.zeros(60, config.action.dim), np.array([0, 30, 60]))
    starts = video.window_starts(config.num_frames)
    task = VideoDiffusionTask(model, video, starts, video, starts, 4)
    return Trainer(task, LoopConfig(num_steps, batch_size=4), folder, 0).run()


def parity_of_backend(model: WorldModel) -> dict[str, float]:
    """Largest differences of the model's back end from eager float32. Internal: the trial."""
    from v2w_core.backends.parity import check_parity

    return check_parity(model, model.backend, "fp32")


def recorded_errors() -> dict[str, float]:
    """Largest errors against the reference's recordings; none where there are no recordings.

    Internal: the functions of tests/parity that take nothing but the recordings.
    """
    test_helpers()
    import compared
    import test_parity_sampling
    import test_parity_unet

    from recordings import SamplingCase, default_folder
    from v2w_core.diffusion.schedule import NoiseSchedule

    if not (default_folder() / "unet_small_base.json").is_file():
        return {}
    recorded = compared.Compared(default_folder())
    compared.ERRORS.clear()
    with torch.inference_mode():
        test_parity_unet.test_the_base_model(recorded)
        test_parity_unet.test_transfers_and_action_conditioning(recorded)
        case, schedule = SamplingCase(recorded), NoiseSchedule(recorded.diffusion())
        test_parity_sampling.test_every_recorded_run(recorded, case, case.unet(), schedule)
    return {what: error for what, error, _ in compared.ERRORS}


def commands() -> list[str]:
    """Names of the subcommands of ``v2w``."""
    return sorted(_project()["entry-points"]["v2w.commands"])


def installed(folder: Path) -> list[str]:
    """The start of a command line that is ``v2w`` as this checkout's pyproject.toml declares it.

    Entry points come from whatever is installed, which another checkout may be; ``folder`` is to
    be put first into PYTHONPATH, its metadata win.
    """
    project, about = _project(), folder / "v2w-0.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: v2w\nVersion: 0.0.0\n")
    entries = project["entry-points"]["v2w.commands"].items()
    lines = itertools.chain(["[v2w.commands]"], (f"{name} = {module}" for name, module in entries))
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    module, _, function = project["scripts"]["v2w"].partition(":")
    return [sys.executable, "-c", f"import sys, {module}; sys.exit({module}.{function}())"]


def _project() -> dict[str, Any]:
    import tomllib  # from Python 3.11 on

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project
