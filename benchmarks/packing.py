"""What weights laid out ahead are worth (v2w_core/models/prepacked.py): rollouts with and without.

One candidate of the mid-size model of benchmarks/rollout.py, 4 denoising steps a frame, guidance.
The two take turns.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from cases import Setup, load_model
from v2w_core.backends.parity import synthetic_actions, synthetic_session
from v2w_core.models import prepacked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mid", choices=("small", "mid"))
    parser.add_argument("--candidates", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    model = load_model(args.model, Setup("cpu", torch.get_num_threads()))
    session, actions = (
        synthetic_session(model, model.backend),
        synthetic_actions(model, args.candidates, 4),
    )
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(args.rounds):
        for packed, taken in seconds.items():
            prepacked.AVAILABLE = packed
            for _ in range(2):  # the first one fills the caches
                began = time.perf_counter()
                session.imagine(actions, num_sampling_steps=4, guidance_scale=2.0)
            taken.append(time.perf_counter() - began)
    for packed, taken in seconds.items():
        print(f"{'laid out ahead' if packed else 'as they are'}: {np.median(taken):.3f} s "
              f"(median of {args.rounds}; {min(taken):.3f} to {max(taken):.3f})")  # fmt: skip
    print(f"{np.median(seconds[False]) / np.median(seconds[True]):.2f} times faster")
    return 0


if __name__ == "__main__":
    sys.exit(main())
