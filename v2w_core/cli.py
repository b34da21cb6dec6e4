"""The console command ``v2w``. Subcommands come from the entry-point group "v2w.commands".

A subcommand is a module (or object) with three attributes:

* ``HELP``: one line for ``v2w --help``;
* ``add_arguments(parser)``: fills an argparse parser;
* ``run(args) -> int | None``: runs the subcommand and returns the exit code.

Command modules must import quickly: heavy imports (torch, rclpy, matplotlib) belong inside ``run``.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from v2w_core.errors import V2WError

GROUP = "v2w.commands"
#: Errors of the place where a result is written, which the user can choose: what it must be.
_PLACES = {
    errno.ENOSPC: "a disk with free space; this one is full",
    errno.EDQUOT: "a disk with free space; the quota is used up",
    errno.EACCES: "a place that this user may read and write",
    errno.EROFS: "a place that can be written",
    errno.ENOTDIR: "a path whose parents are folders",
}
DESCRIPTION = """\
v2w: causal, action-guided world models for robots.

First steps:
  v2w collect runs/episodes --episodes 20      record a simulated robot
  v2w train --help                             train a model, also on your own bag
  v2w imagine EPISODE                          let the model imagine what actions lead to
  v2w replay BAG                               imagination beside a real recording
  v2w plan EPISODE                             choose actions that lead to a goal
  v2w up                                       start the ROS 2 nodes
"""


def _commands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def build_parser(selected: str | None) -> argparse.ArgumentParser:
    """The parser. Only the selected subcommand gets its arguments; None selects all."""
    parser = argparse.ArgumentParser(
        prog="v2w", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, entry in _commands().items():
        try:
            module: Any = entry.load()
        except ImportError as error:
            text = f"not available: {error}"
            sub = subparsers.add_parser(name, help=text, description=text)
            sub.set_defaults(run=_unavailable(name, error))
            continue
        sub = subparsers.add_parser(
            name,
            help=module.HELP,
            description=getattr(module, "DESCRIPTION", module.HELP),
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if selected in (None, name):
            module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def _unavailable(name: str, error: ImportError) -> Any:
    def run(_: argparse.Namespace) -> int:
        missing = error.name or "a package"
        raise V2WError(
            f"v2w {name}", f"needs {missing}; install it with: pip install 'v2w[all]'", str(error)
        )

    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 for success, 1 for a failed job, 2 for bad input, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    selected = next((item for item in arguments if not item.startswith("-")), None)
    args = build_parser(selected).parse_args(arguments)
    try:
        return int(args.run(args) or 0)
    except V2WError as error:
        if args.debug:
            raise
        print(f"v2w {args.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except OSError as error:
        if args.debug or error.errno not in _PLACES:
            raise
        where = error.filename or "the disk"
        print(f"v2w {args.command}: error: {where}: {_PLACES[error.errno]} ({error})",
              file=sys.stderr)  # fmt: skip
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
