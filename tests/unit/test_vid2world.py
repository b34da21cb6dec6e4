"""Vid2World's recipe: what a step is made of, what learns, and that it can be stopped."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("transformers")

from core_toys import wake
from vid2world_toys import settings, write_episodes

from training.initial_model import initial_model
from training.trainer import LoopConfig, Trainer
from training.vid2world import ClipConfig, Vid2WorldTask
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.errors import DataError, V2WError
from v2w_core.models.stage import Stage
from v2w_core.testing import PLANAR_4HZ

PAPER = ObjectiveConfig(
    past_probability=0, blind_probability=0, action_dropout=0.2, weighting="velocity"
)
PLAIN = ClipConfig(augment=False, num_validation=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_episodes(tmp_path_factory.mktemp("episodes"))


def model(seed=0):
    made = wake(initial_model(settings(), PLANAR_4HZ, seed))
    made.image_context.text_tokens.copy_(torch.randn(2, 64, generator=random(seed)))
    return made


def task(files, batch_size=2, config=PLAIN, **changes):
    objective = dataclasses.replace(PAPER, **changes)
    return Vid2WorldTask(model(), files, files, batch_size, objective, config)


def random(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.slow
def test_a_step_is_what_the_paper_says(files, monkeypatch):
    it = task(files, batch_size=32)
    spec, config = it.model.config.action, it.model.config
    images, passes = [], []

    def look(shown):
        images.append(shown)
        return torch.arange(2 + 5 * 4).float()[None, :, None].expand(len(shown), -1, 64)

    def encode(pictures, noise):
        assert abs(float(noise.mean())) < 0.2 and 0.8 < float(noise.std()) < 1.2
        return pictures.mean(dim=1, keepdim=True)[:, :, ::8, ::8].expand_as(noise)

    def predict(x, level, actions, known, context):
        passes.append((x, level, actions, known, context))
        return torch.zeros_like(x[:, :, :12]), None

    monkeypatch.setattr(it.model.image_context, "forward", look)
    monkeypatch.setattr(it.model.autoencoder, "sample", encode)
    monkeypatch.setattr(it.model.unet, "forward", predict)
    generator = random(0)
    for _ in range(40):
        it.loss(generator, 0.0)

    x, level, actions, known = (torch.cat([p[i] for p in passes]) for i in range(4))
    grey = torch.cat([(shown == 0).flatten(1).all(dim=1) for shown in images])
    assert len(x) == len(grey) == 1280
    # noise levels: all 1000 alike, independent for every frame
    assert int(level.min()) < 5 and int(level.max()) > 994
    assert abs(float(level.float().mean()) - 499.5) < 15
    others = torch.corrcoef(level.T.float()) - torch.eye(5)
    assert float(others.abs().max()) < 0.1
    # actions: that of the frame before, a fifth of them dropped frame by frame, none for frame 0
    assert not known[:, 0].any()
    dropped = 1 - known[:, 1:].float()
    assert abs(float(dropped.mean()) - 0.2) < 0.02
    assert float((torch.corrcoef(dropped.T) - torch.eye(4)).abs().max()) < 0.1
    recorded = torch.from_numpy(
        np.concatenate([spec.normalise(episode.actions) for episode in files.episodes])
    )
    found = (actions[:, 1:, None] == recorded).all(dim=3)
    assert found.any(dim=2).all()
    row = found.float().argmax(dim=2)
    assert (row.diff(dim=1) == 1).all()  # consecutive, in their order
    # the image for CLIP is grey for a tenth of the clips
    assert abs(float(grey.float().mean()) - 0.1) < 0.03
    # the first frame's latents stand, clean, beside every frame, also where CLIP sees grey
    first = x[:, :, 12:]
    assert (first == first[:, :1]).all()
    shown = torch.cat(images)[~grey].mean(dim=1)[:, ::8, ::8]
    assert torch.allclose(first[~grey][:, 0, 0], shown, atol=1e-6)
    assert float(first[grey].abs().mean()) > 0.1
    # every frame has image tokens of its own
    context = passes[0][4]
    assert context.image[0, :, :, 0].tolist() == torch.arange(2, 22).reshape(5, 4).tolist()
    assert context.text.shape == (32, 2, 64)
    # pure noise holds nothing of the frame; nearly clean frames are scaled by their level
    noisy, kept = x[:, :, :12], it.model.schedule.scale[level]
    assert float(kept.min()) == pytest.approx(0.7) and config.diffusion.base_scale == 0.7
    assert 0.9 < float(noisy[level > 990].std()) < 1.1


@pytest.mark.slow
def test_frozen_parts_stay_and_all_others_learn(files, tmp_path):
    it = task(files)
    before = {name: value.clone() for name, value in it.model.state_dict().items()}
    loss, _ = it.loss(random(3), 0.0)
    loss.backward()
    still = [n for n, p in it.module.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    Trainer(it, LoopConfig(2, learning_rate=1e-3, ema_decay=None), tmp_path, seed=0).run()
    changed = {n for n, v in it.model.state_dict().items() if not torch.equal(v, before[n])}
    trained = {n for n in before if n.startswith(("unet.", "image_context.resampler."))}
    assert changed == trained
    assert any(n.startswith("autoencoder.vae.encoder") for n in before)
    assert any(n.startswith("image_context.vision") for n in before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"ema_decay": None, "accumulate": 2}, {"ema_decay": 0.9}, {"precision": "float16"}],
    ids=["accumulated", "averaged", "float16"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(files, tmp_path, changes):
    values = {"batch_size": 2, "warmup_steps": 0, "cooldown": 0, "clip_norm": 0.5, **changes}
    loop = LoopConfig(4, learning_rate=1e-3, **values)
    clip = dataclasses.replace(PLAIN, recompute=loop.precision == "float16")  # as at full size

    class Stop(Exception):
        pass

    def run(folder, stop_at=None):
        it = task(files, config=clip)
        trainer = Trainer(it, loop, folder, seed=3)
        step = trainer._one_step

        def one_step():
            if trainer.step == stop_at:
                trainer.save()
                raise Stop
            return step()

        trainer._one_step = one_step
        trainer.run()
        return torch.cat([p.detach().flatten() for p in it.module.parameters()])

    whole = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "halves", stop_at=2)
    assert torch.equal(run(tmp_path / "halves"), whole)


@pytest.mark.slow
def test_recomputed_activations_give_the_same_gradients(files):
    found = []
    for recompute in (False, True):
        it = task(files, config=dataclasses.replace(PLAIN, recompute=recompute))
        stages = [m for m in it.model.unet.modules() if isinstance(m, Stage)]
        assert stages and all(stage.recompute is recompute for stage in stages)
        it.module.train()
        torch.manual_seed(0)  # of dropout
        loss, _ = it.loss(random(1), 0.0)
        loss.backward()
        found.append([p.grad for p in it.module.parameters()])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(again, kept, atol=1e-6, rtol=1e-5)


def test_validation_repeats_and_tells_other_actions_apart(files):
    it = task(files)
    it.module.eval()
    first = it.validate()
    assert first == it.validate()
    assert first["loss"] != first["loss_other_actions"]
    assert all(np.isfinite(value) for value in first.values())


def test_one_held_out_clip_has_no_other_actions(files, tmp_path):
    one = write_episodes(tmp_path, lengths=(5,))
    it = Vid2WorldTask(model(), files, one, 2, PAPER, PLAIN)
    it.module.eval()
    assert it.validate().keys() == {"loss"}


def test_clips_may_be_shorter_than_the_models_window(files, monkeypatch):
    it = task(files, config=dataclasses.replace(PLAIN, num_frames=3))
    seen = []

    def predict(x, *told, context):
        seen.append((x, context))
        return torch.zeros_like(x[:, :, :12]), None

    monkeypatch.setattr(it.model.unet, "forward", predict)
    it.loss(random(0), 0.0)
    x, context = seen[0]
    assert x.shape[1] == context.image.shape[1] == 3
    with pytest.raises(V2WError, match=r"vid2world.num_frames"):
        task(files, config=dataclasses.replace(PLAIN, num_frames=6))


def test_clips_are_augmented_alike_in_all_frames(files):
    pytest.importorskip("training.augmentation")
    from training.vid2world import augmented

    still = np.random.default_rng(0).integers(0, 255, (2, 1, 32, 32, 3), dtype=np.uint8)
    clips = np.broadcast_to(still, (2, 5, 32, 32, 3)).copy()
    changed = augmented(clips, random(0))
    assert changed.shape == clips.shape and changed.dtype == np.uint8
    assert (changed == changed[:, :1]).all() and not (changed == clips).all()
    assert np.array_equal(changed, augmented(clips, random(0)))
    assert not np.array_equal(changed, augmented(clips, random(1)))
    it = task(files, config=dataclasses.replace(PLAIN, augment=True))
    assert torch.isfinite(it.loss(random(0), 0.0)[0])


@pytest.mark.slow
def test_what_the_recipe_cannot_do_is_refused(files, tmp_path: pathlib.Path):
    with pytest.raises(V2WError, match="forced_probability"):
        task(files, forced_probability=0.5)
    with pytest.raises(V2WError, match="image_dropout"):
        ClipConfig(image_dropout=(0.2, 0.1))
    short = write_episodes(tmp_path, lengths=(4, 3))
    with pytest.raises(DataError, match="at least 5 frames"):
        task(short)
