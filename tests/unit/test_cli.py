"""The console command itself: light, whatever its subcommands need."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "onnx", "onnxruntime", "diffusers", "rclpy", "matplotlib", "hydra", "cv2")


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from v2w_core import cli\n"
        "try: cli.main(['--help'])\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert " imagine  " in done.stdout and "not available" not in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
