"""Command-line arguments shared by several commands."""

from __future__ import annotations

import argparse
import math

from v2w_core.backends.names import AUTO, BACKENDS, PRECISIONS
from v2w_core.errors import V2WError


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of sampling, seed, device and back end."""
    add = parser.add_argument
    add("--num-sampling-steps", type=int, metavar="N",
        help="denoising steps a frame (default: the checkpoint's)")  # fmt: skip
    add("--guidance-scale", type=float, metavar="S",
        help="guidance by the actions, 1 is off (default: the checkpoint's)")  # fmt: skip
    add("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add_backend_arguments(parser)


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the back end."""
    text = "what computes rollouts; auto: the fastest that can be built (default: %(default)s)"
    parser.add_argument("--backend", choices=(AUTO, *BACKENDS), default="eager", help=text)
    text = "of the arithmetic; fp16 and bf16 on a GPU only (default: %(default)s)"
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=text)


def check_sampling_arguments(args: argparse.Namespace) -> None:
    """Raises V2WError for invalid sampling arguments, before anything slow runs."""
    steps, scale = args.num_sampling_steps, args.guidance_scale
    if steps is not None and not 1 <= steps <= 1000:
        raise V2WError("--num-sampling-steps", "from 1 to 1000", steps)
    if scale is not None and not (math.isfinite(scale) and scale >= 0):
        raise V2WError("--guidance-scale", "a finite number of at least 0", scale)
    if not 0 <= args.seed < 2**31:
        raise V2WError("--seed", "from 0 to 2147483647", args.seed)
