"""``v2w evaluate``: evaluation of a checkpoint's predictions, or of planning with it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from typing import Any

HELP = "measure a checkpoint: predictions, or planning in the simulator"
DESCRIPTION = """\
Measures a world model on held-out episodes. Prints a table; --json FILE keeps the numbers.
"""
EPILOG = """\
examples:
  v2w evaluate prediction --json runs/prediction.json
  v2w evaluate planning --goals 50 --json runs/planning.json
"""
SUBJECTS = {
    "prediction": "training.evaluation.prediction",
    "planning": "training.evaluation.planning",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each subject, a module with HELP, add_arguments and run."""
    subjects = parser.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    for name, path in SUBJECTS.items():
        if importlib.util.find_spec(path) is None:
            continue
        module: Any = importlib.import_module(path)
        sub = subjects.add_parser(
            name,
            help=module.HELP,
            description=getattr(module, "DESCRIPTION", module.HELP),
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen subject."""
    module: Any = importlib.import_module(SUBJECTS[args.subject])
    return int(module.run(args) or 0)
