"""Nothing of one folder is written into these tests: another of the same format passes as well."""

from __future__ import annotations

import pytest
import test_parity_encoders as encoders
import test_parity_sampling as sampling
import test_parity_unet as unets
from another_folder import write_folder
from compared import ERRORS, Compared
from safetensors.torch import load_file, save_file

from recordings import SamplingCase
from v2w_core.diffusion.schedule import NoiseSchedule


@pytest.fixture
def no_errors_of_ours():
    """What is compared here is not what the summary is about."""
    count = len(ERRORS)
    yield
    del ERRORS[count:]


def compare_all(recorded):
    schedule, case = NoiseSchedule(recorded.diffusion()), SamplingCase(recorded)
    sampling.test_the_schedule(recorded, schedule)
    sampling.test_sampling_levels_and_their_noise(recorded, schedule)
    unets.test_the_base_model(recorded)
    unets.test_transfers_and_action_conditioning(recorded)
    sampling.test_every_recorded_run(recorded, case, case.unet(), schedule)
    sampling.test_training(recorded, case, case.unet(), schedule)
    encoders.test_the_autoencoder(recorded)
    encoders.test_the_resampler(recorded)
    encoders.test_clip_preprocessing(recorded)


def test_another_folder_passes_and_a_wrong_one_does_not(tmp_path, no_errors_of_ours):
    before = len(ERRORS)
    write_folder(tmp_path)
    compare_all(Compared(tmp_path))
    seen = {what for what, *_ in ERRORS[before:]}
    for what in ("sampling drifting", "sampling together", "ddim uniform_8",
                 "unet_small_causal_shift_action51 wrapper", "train.pred"):  # fmt: skip
        assert what in seen
    file = tmp_path / "sampler_small.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "drifting.out": tensors["drifting.out"] + 1e-3}, file)
    with pytest.raises(AssertionError, match="sampling drifting"):
        compare_all(Compared(tmp_path))
    save_file({**tensors, "unheard_of.out": tensors["drifting.out"].clone()}, file)
    with pytest.raises(AssertionError, match="unheard_of"):
        compare_all(Compared(tmp_path))
