"""``v2w train``: training of a world model from a hydra configuration."""

from __future__ import annotations

import argparse
import shlex

HELP = "train a world model on episodes (v2w collect, v2w convert)"
DESCRIPTION = """\
Trains the autoencoder, the world model on its latents, and (where actions are dx, dy, dyaw) how far
a view is from a goal image; then writes a checkpoint folder.
Settings are KEY=VALUE pairs over training/conf/config.yaml (hydra). The run can be stopped with
Ctrl-C at any time; the same command resumes it, and the result equals an uninterrupted run.
"""
EPILOG = """\
examples:
  v2w train                                        the default model on runs/episodes/train
  v2w train --show                                 print every setting and stop
  v2w train model=tiny out=runs/train/try world_model_loop.num_steps=200

on your own bag:
  v2w convert my_bag my_episodes --rate-hz 4       camera + odometry -> episodes
  v2w data preview my_episodes                     look at them first
  v2w train data.train=my_episodes data.val=null out=runs/train/mine
  v2w replay my_bag --checkpoint runs/train/mine/checkpoint

fine-tune a model that exists (its sizes are kept and how its actions are scaled; your data's scale
and rate with action_scale=data):
  v2w train init_from=runs/train/doom_maze/checkpoint data.train=my_episodes data.val=null \\
            out=runs/train/tuned world_model_loop.num_steps=500

Vid2World's recipe (docs/recipes.md; a GPU, and episodes of that domain):
  v2w import DynamiCrafter_512.ckpt runs/dynamicrafter --kind dynamicrafter512
  v2w train +experiment=vid2world_rt1 data.train=runs/episodes/rt1 init_from=runs/dynamicrafter
  the same: vid2world_csgo, vid2world_recon; vid2world_paper for any other actions
  v2w train +experiment=vid2world_small            in small, on a CPU
  v2w train --show +experiment=vid2world_rt1       every value, from the paper's Table 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings to change (hydra syntax)"
    )
    parser.add_argument("--show", action="store_true", help="print the settings and stop")


def run(args: argparse.Namespace) -> int:
    import yaml

    from training.train import load_settings, train

    settings = load_settings(args.overrides)
    if args.show:
        print(yaml.safe_dump(settings, sort_keys=False), end="")
        return 0
    command = " ".join(["v2w train", *(shlex.quote(item) for item in args.overrides)])
    print(f"checkpoint: {train(settings, command)}")
    return 0
