"""The released models at full size: memory of an import, FLOPs, one real denoising step.

  python benchmarks/full_size.py flops      parameters and FLOPs a frame, on the meta device
  python benchmarks/full_size.py floors     seconds that a frame and a plan take at least, on GPUs
  python benchmarks/full_size.py step       one step of one cached frame and of a window, bfloat16
  python benchmarks/full_size.py import     writes a checkpoint of the recorded structure
                                            (V2W_PARITY_DIR) with random weights in float32, 10 GB
                                            (or float16, 5 GB), and imports it

Each writes its part of benchmarks/results/full_size.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch
from torch import Tensor

from floors import CountedUNet, Rates, Work, total
from recordings import Recordings, default_folder
from v2w_core.config import WorldModelConfig
from v2w_core.files import write_text
from v2w_core.models.attention import Context
from v2w_core.models.temporal_cache import Cache
from v2w_core.models.unet import UNet, UNetConfig
from v2w_core.transfer.released import released_config
from v2w_core.transfer.released_names import KINDS
from v2w_core.world_model import WorldModel

RESULT = pathlib.Path(__file__).resolve().parent / "results" / "full_size.json"
WINDOW = 16
GIB = 2**30
#: Data sheets: dense 16-bit matrix products and memory. Of Thor and Orin, the modules' full power.
DEVICES = {
    "H200": Rates(790e12, 4300e9),
    "RTX 4090": Rates(165e12, 1008e9),
    "Thor T5000": Rates(257e12, 273e9),
    "AGX Orin 64": Rates(42.5e12, 204.8e9),
}
PLAN_CANDIDATES, PLAN_HORIZON, FEW_STEPS, OFFICIAL_STEPS = 64, 8, 4, 50


def causal_config() -> tuple[WorldModelConfig, UNetConfig]:
    """The RT-1 model with per-frame statistics, whose past can be cached (v2w convert-norm)."""
    config = released_config("vid2world-rt1")
    return config, dataclasses.replace(config.unet, norm_scope="frame")


def inputs(config: WorldModelConfig, num_frames: int, **factory: Any) -> dict[str, Any]:
    """What the U-Net is given of ``num_frames`` frames of 320x512."""
    _, height, width = config.latent_shape
    channels, dim = config.unet.in_channels, config.unet.context_dim
    level = torch.zeros(1, num_frames, dtype=torch.long, device=factory["device"])
    tokens = torch.zeros(1, num_frames, 16, dim, **factory)
    return {
        "x": torch.zeros(1, num_frames, channels, height, width, **factory),
        "noise_level": level,
        "actions": torch.zeros(1, num_frames, config.action.dim, **factory),
        "context": Context(torch.zeros(1, 77, dim, **factory), tokens),
    }


def counted(
    num_frames: int, cache: Any = None, unet: CountedUNet | None = None, num_uncached: int = 0
) -> tuple[Work, Any, CountedUNet]:
    """One pass of the bfloat16 U-Net over ``num_frames``, the cache after it, and the U-Net.

    The last ``num_uncached`` frames are not kept for later ones.
    """
    config, unet_config = causal_config()
    unet = unet or CountedUNet(unet_config, torch.bfloat16, padding=True)
    given = inputs(config, num_frames, device=torch.device("meta"), dtype=torch.bfloat16)
    order = ("x", "noise_level", "actions")
    frames = (given[name] for name in order)
    _, after = unet(*frames, None, cache=cache, context=given["context"], num_uncached=num_uncached)
    return unet.passes[-1], after, unet


def count_flops(args: argparse.Namespace) -> dict[str, Any]:
    """Parameters, FLOPs (2 x multiply-add) of a window and of one cached frame, cache bytes."""
    with torch.device("meta"):
        whole = WorldModel(causal_config()[0])
    window, _, unet = counted(WINDOW, num_uncached=WINDOW)
    _, past, _ = counted(WINDOW - 1, unet=unet)
    last, full, _ = counted(1, past, unet)
    key_values, tails = cache_bytes(full)
    return {
        "parameters_m": sum(p.numel() for p in whole.parameters()) / 1e6,
        "unet_parameters_m": unet.num_parameters / 1e6,
        f"window_of_{WINDOW}_tflop": window.flops / 1e12,
        "cached_frame_tflop": last.flops / 1e12,
        "key_value_mb_a_frame": key_values / WINDOW / 1e6,
        "convolution_cache_mb": tails / 1e6,
    }


def cache_bytes(cache: Cache) -> tuple[int, int]:
    """Bytes of keys and values, and of the conv states."""
    pairs = [pair for pair in (*cache.suffix, *cache.prefix) if pair is not None]
    key_values = sum(t.numel() * t.element_size() for pair in pairs for t in pair)
    return key_values, cache.nbytes() - key_values


def count_floors(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds at least, by mode and device, behind a full window.

    A guided step is one pass of both branches, which read the same cache once.
    """
    window, _, unet = counted(WINDOW, num_uncached=WINDOW)
    _, past, _ = counted(WINDOW - 1, unet=unet)
    frame, _, _ = counted(1, past, unet)
    weights, (key_values, tails) = unet.weight_bytes, cache_bytes(past)

    def step(num_frames: int, num_pasts: int, num_shared: int = 0) -> Work:
        """The work of several cached frames whose caches share some frames."""
        each = key_values / (WINDOW - 1)
        seen = num_shared * each + num_pasts * (key_values - num_shared * each)
        return Work(num_frames * frame.flops, weights + num_pasts * tails + seen)

    def plan(shared: bool) -> Work:
        """Frame by frame: what a candidate has imagined before is its own."""
        in_common = [WINDOW - 1 - num_suffix if shared else 0 for num_suffix in range(PLAN_HORIZON)]
        steps = (step(PLAN_CANDIDATES, PLAN_CANDIDATES, number) for number in in_common)
        return total(steps).times(FEW_STEPS)

    modes = {
        "official: window 16, 50 steps, guidance": Work(
            2 * window.flops, window.bytes).times(OFFICIAL_STEPS),
        "+ K/V cache": step(2, 1).times(OFFICIAL_STEPS),
        "+ no guidance, 4 steps": step(1, 1).times(FEW_STEPS),
        "64 candidates x 8 frames, last mode": plan(shared=False),
        "the same, history shared": plan(shared=True),
    }  # fmt: skip
    return {
        mode: {
            "tflop": work.flops / 1e12,
            "gbyte": work.bytes / 1e9,
            "floor_s": {name: work.floor_s(rates) for name, rates in DEVICES.items()},
            "bound_by": {name: work.bound_by(rates) for name, rates in DEVICES.items()},
        }
        for mode, work in modes.items()
    }


def print_floors(floors: dict[str, Any]) -> None:
    print(f"{'seconds at least':42} {'TFLOP':>8} {'GB':>8}" +
          "".join(f"{name:>14}" for name in DEVICES))  # fmt: skip
    for mode, found in floors.items():
        times = [f"{found['floor_s'][n]:.3g} {found['bound_by'][n][0]}" for n in DEVICES]
        print(f"{mode:42} {found['tflop']:>8.3g} {found['gbyte']:>8.3g}" +
              "".join(f"{text:>14}" for text in times))  # fmt: skip
    print("a: bound by arithmetic, m: by memory")


@torch.inference_mode()
def real_step(args: argparse.Namespace) -> dict[str, Any]:
    """One denoising step of the U-Net in bfloat16 with random weights on this machine."""
    config, unet_config = causal_config()
    with torch.device("meta"):
        unet = UNet(unet_config).eval().to(torch.bfloat16)
    unet = unet.to_empty(device="cpu")
    for parameter in unet.parameters():
        parameter.normal_(std=0.02)
    shape = {"device": torch.device("cpu"), "dtype": torch.bfloat16}
    began = time.perf_counter()
    _, cache = unet(**inputs(config, 1, **shape))
    first = time.perf_counter() - began
    began = time.perf_counter()
    v, _ = unet(**inputs(config, 1, **shape), cache=cache.as_prefix())
    cached = time.perf_counter() - began
    assert bool(v.isfinite().all())
    print(f"one cached frame: {cached:.1f} s", file=sys.stderr)
    peak_one = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    began = time.perf_counter()
    unet(**inputs(config, args.window, **shape))
    window = time.perf_counter() - began
    return {
        "dtype": "bfloat16",
        "num_threads": torch.get_num_threads(),
        "first_frame_s": first,
        "cached_frame_s": cached,
        "peak_gib_one_frame": peak_one,
        "num_window_frames": args.window,
        "window_s": window,
        "peak_gib_window": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB,
    }


def measure_import(args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of ``v2w import`` of a synthetic checkpoint of the released structure."""
    shapes, _ = Recordings(default_folder()).released_shapes(args.kind)
    dtype = getattr(torch, args.dtype)
    with tempfile.TemporaryDirectory(dir=args.workdir) as folder:
        source = pathlib.Path(folder) / "synthetic.ckpt"
        weights = {name: random(shape, dtype) for name, shape in shapes.items()}
        torch.save({"state_dict": weights}, source)
        del weights
        size = source.stat().st_size
        command = [sys.executable, "-m", "v2w_core.cli", "import", str(source),
                   f"{folder}/imported", "--kind", args.kind]  # fmt: skip
        began = time.perf_counter()
        peak = watched(command)
        seconds = time.perf_counter() - began
        written = sum(f.stat().st_size for f in pathlib.Path(folder, "imported").iterdir())
    return {
        "kind": args.kind,
        "source_dtype": args.dtype,
        "num_tensors": len(shapes),
        "parameters_m": sum(math.prod(shape) for shape in shapes.values()) / 1e6,
        "source_gb": size / 1e9,
        "written_gb": written / 1e9,
        "seconds": seconds,
        **peak,
    }


def random(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Cheap random numbers: one small block, repeated."""
    count = math.prod(shape)
    block = (0.02 * torch.randn(min(count, 65536))).to(dtype)
    return block.repeat(-(-count // len(block)))[:count].reshape(tuple(shape))


def watched(command: Sequence[str]) -> dict[str, float]:
    """Peak memory of a process [GiB]: anonymous pages, and with those of the mapped file."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = {"peak_own_gib": 0.0, "peak_resident_gib": 0.0}
    done = threading.Event()

    def watch() -> None:
        seen = psutil.Process(process.pid)
        while not done.wait(0.05):
            try:
                memory = seen.memory_info()
            except psutil.Error:
                return
            own = (memory.rss - memory.shared) / GIB
            peak["peak_own_gib"] = max(peak["peak_own_gib"], own)
            peak["peak_resident_gib"] = max(peak["peak_resident_gib"], memory.rss / GIB)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        raise SystemExit(code)
    return peak


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {
        "flops": count_flops, "floors": count_floors, "step": real_step, "import": measure_import,
    }  # fmt: skip
    parser.add_argument("part", choices=parts)
    parser.add_argument("--kind", default="dynamicrafter512", choices=KINDS, help="(part import)")
    dtypes = "float32", "float16"
    parser.add_argument("--dtype", default="float32", choices=dtypes, help="(part import)")
    parser.add_argument("--workdir", help="where there is room for 16 GB (part import)")
    parser.add_argument("--window", type=int, default=WINDOW, help="frames (part step)")
    args = parser.parse_args()
    if args.part == "import" and not Recordings(default_folder()).has("vid2world_unet_keys"):
        parser.error(f"no recordings in {default_folder()}; set V2W_PARITY_DIR")
    found = parts[args.part](args)
    results = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    name = f"import_{args.dtype}" if args.part == "import" else args.part
    results[name] = found
    results["cpus"] = os.cpu_count()
    write_text(RESULT, json.dumps(results, indent=2) + "\n")
    if args.part == "floors":
        print_floors(found)
        return 0
    width = max(len(name) for name in found)
    for name, value in found.items():
        print(
            f"{name:{width}}  {value:.3f}"
            if isinstance(value, float)
            else f"{name:{width}}  {value}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
