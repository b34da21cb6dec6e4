"""Frames that v2w collect records in a second of one core, the game engine's time included.

    python benchmarks/collect_rate.py

Processor time is counted, not the clock's, so that a busy machine gives the same figure.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from unittest import mock

import psutil

from training.commands import collect
from training.envs.doom import DoomMazeEnv

CASES = {
    "the small maze": (),
    "one building": ("--world", "rooms"),
    "a new building for each episode": ("--world", "rooms", "--world-seeds", "2000-2039"),
}
EPISODES, STEPS = 40, 120


def main() -> None:
    for name, options in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds = processor_s(Path(folder), options)
        frames = EPISODES * (STEPS + 1)
        print(f"{name}: {frames / seconds:.0f} frames a second of one core")


def processor_s(folder: Path, options: tuple[str, ...]) -> float:
    """Processor time of a collection: this process's, and the engine's before it ends."""
    parser = argparse.ArgumentParser()
    collect.add_arguments(parser)
    amount = ("--episodes", str(EPISODES), "--steps", str(STEPS))
    engines: list[float] = []
    close = DoomMazeEnv.close

    def count(env: DoomMazeEnv) -> None:
        running = psutil.Process().children(recursive=True)
        engines.append(sum(sum(process.cpu_times()[:2]) for process in running))
        close(env)

    with mock.patch.object(DoomMazeEnv, "close", count):
        before = time.process_time()
        collect.run(parser.parse_args([str(folder), *amount, *options]))
        return time.process_time() - before + sum(engines)


if __name__ == "__main__":
    main()
