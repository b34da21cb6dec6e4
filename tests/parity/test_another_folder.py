"""Nothing of one folder is written into these tests: another of the same format passes as well."""

from __future__ import annotations

import pytest
import test_parity_encoders as encoders
import test_parity_sampling as sampling
import test_parity_structure as structure
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


def with_schedule(test):
    return lambda recorded: test(recorded, NoiseSchedule(recorded.diffusion()))


def with_case(test):
    def run(recorded):
        case = SamplingCase(recorded)
        test(recorded, case, case.unet(), NoiseSchedule(recorded.diffusion()))

    return run


TESTS = {
    "schedule": with_schedule(sampling.test_the_schedule),
    "levels": with_schedule(sampling.test_sampling_levels_and_their_noise),
    "base": unets.test_the_base_model,
    "transfers": unets.test_transfers_and_action_conditioning,
    "runs": with_case(sampling.test_every_recorded_run),
    "training": with_case(sampling.test_training),
    "autoencoder": encoders.test_the_autoencoder,
    "resampler": encoders.test_the_resampler,
    "clip": encoders.test_clip_preprocessing,
    "parameters": structure.test_the_number_of_parameters,
    "keys": lambda recorded: structure.test_every_key_and_shape(recorded, "vid2world-rt1"),
}
#: About the released models themselves: what is made here has no lists of their tensors.
STRUCTURE = {"parameters", "keys"}


def compare_all(recorded):
    for name, test in TESTS.items():
        if name not in STRUCTURE:
            test(recorded)


def skipped(recorded):
    """Name -> why, of the tests that are skipped; all others pass."""
    reasons = {}
    for name, test in TESTS.items():
        try:
            test(recorded)
        except pytest.skip.Exception as reason:
            reasons[name] = str(reason)
    return reasons


@pytest.mark.slow
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


@pytest.mark.slow
def test_tests_without_their_recordings_are_skipped(tmp_path, no_errors_of_ours):
    reasons = skipped(Compared(tmp_path))
    assert reasons.keys() == TESTS.keys()
    assert "unet_small_causal_*.json" in reasons["transfers"]
    write_folder(tmp_path)
    assert skipped(Compared(tmp_path)).keys() == STRUCTURE
    (tmp_path / "clip_preprocess.npz").unlink()
    (tmp_path / "unet_small_base_weights.safetensors").unlink()
    reasons = skipped(Compared(tmp_path))
    assert "no clip_preprocess.npz" in reasons["clip"]
    assert reasons.keys() == {*STRUCTURE, "base", "transfers", "runs", "training", "clip"}
