"""Names of the released models."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["dynamicrafter512", "vid2world-rt1", "vid2world-csgo", "vid2world-recon"]
KINDS: tuple[Kind, ...] = get_args(Kind)
