"""ViZDoom as a deterministic rigid-body engine: one tic at a time, in map units and angle steps.

Motion law of a tic: velocity before the move u = v + thrust / 32, position p += u, velocity after
it v = 0.90625 u (zero if u is small and there is no thrust). Thrusts are integers within +-50 along
the body's axes. Angles are in units of 1/65536 of a turn, which makes turns exact. The engine runs
as a separate process in a private temporary folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import vizdoom as vzd
from numpy.typing import NDArray

from training.envs.udmf import MapFile
from v2w_core.errors import V2WError

ANGLE_STEPS = 65536
MAX_THRUST = 50
THRUST_TO_SPEED = 1.0 / 32.0
FRICTION = 0.90625
STOP_SPEED = 0.0625
#: Tics after the start during which the engine ignores all input, with a margin.
WARM_UP_TICS = 20

_RESOLUTIONS = ((160, 120), (320, 240), (640, 480), (800, 600), (1024, 768), (1600, 1200))
_VARIABLES = ("POSITION_X", "POSITION_Y", "VELOCITY_X", "VELOCITY_Y", "ANGLE")
_HIDDEN = (
    "hud", "weapon", "crosshair", "decals", "particles", "effects_sprites", "messages",
    "corpses", "screen_flashes",
)  # fmt: skip

# The engine writes into its working directory, so that the launcher changes to a private one (chdir
# in this process would affect every thread). A watcher process ends an engine whose parent was
# killed, which would otherwise wait for commands forever.
_LAUNCHER = """\
#!/bin/sh
cd {folder} || exit 1
for word in "$@"; do
  if [ "$last" = "+viz_instance_id" ]; then instance=$word; fi
  last=$word
done
ours() {{
  if [ -d /proc/self ]; then
    grep -q "^PPid:[[:space:]]*{parent}$" /proc/$$/status
  else
    kill -0 {parent} && kill -0 $$
  fi
}}
(
  while ours; do sleep 2; done
  kill -0 $$ || exit 0
  kill $$
  sleep 1
  kill -9 $$
  if [ -n "$instance" ]; then rm -f /dev/shm/ViZDoom*"$instance"; fi
  cd / && rm -rf {folder}
) </dev/null >/dev/null 2>&1 &
exec {engine} "$@"
"""


class DoomEngine:
    """A running game with a map that is empty except for the camera.

    Args:
        textmap: the map in UDMF.
        image_size: (height, width) in pixels; rendered at the engine's next larger resolution.
        seed: seed of the game (without visible effect in an empty map).

    Attributes:
        x, y: position in map units, at the last observed tic.
        velocity: (vx, vy) in map units per tic, world frame, at the last observed tic.
        angle: 0..65535, counter-clockwise from east, at the last observed tic.
    """

    def __init__(self, textmap: str, image_size: tuple[int, int], seed: int = 0) -> None:
        height, width = image_size
        if not (8 <= height <= 1200 and 8 <= width <= 1600):
            raise V2WError("image_size", "(height, width) within 8..1200 and 8..1600", image_size)
        self.image_size = (int(height), int(width))
        self._rendered = next(r for r in _RESOLUTIONS if r[0] >= width and r[1] >= height)
        folder = Path(tempfile.mkdtemp(prefix="v2w_doom_"))
        self.x = self.y = 0.0
        self.velocity = (0.0, 0.0)
        self.angle = 0
        self._map = MapFile(folder / "world.wad", textmap)
        self._game = self._configure(folder, seed)
        self._close = weakref.finalize(self, _shut_down, self._game, folder)
        try:
            with _interrupts_blocked():
                self._game.init()
        except Exception as error:
            self.close()
            raise V2WError("simulator", "ViZDoom did not start", str(error)) from error
        self._warm_up()

    def enter(self, textmap: str) -> None:
        """Continues in another map, which takes a few milliseconds."""
        self._map.replace(textmap)
        self._game.new_episode()
        self._warm_up()

    def _warm_up(self) -> None:
        for _ in range(WARM_UP_TICS):
            self.tic(0, 0, 0, observe=False)
        self.tic(0, 0, 0)

    def _configure(self, folder: Path, seed: int) -> Any:
        game = vzd.DoomGame()
        launcher = folder / "vizdoom"
        launcher.write_text(
            _LAUNCHER.format(
                folder=shlex.quote(str(folder)),
                parent=os.getpid(),
                engine=shlex.quote(str(Path(vzd.__file__).parent / "vizdoom")),
            )
        )
        launcher.chmod(0o700)
        game.set_vizdoom_path(str(launcher))
        game.set_doom_config_path(str(folder / "_vizdoom.ini"))
        game.set_doom_game_path(str(Path(vzd.__file__).parent / "freedoom2.wad"))
        game.set_doom_scenario_path(str(self._map.path))
        game.set_doom_map("map01")
        game.set_mode(vzd.Mode.PLAYER)
        game.set_screen_format(vzd.ScreenFormat.RGB24)
        width, height = self._rendered
        game.set_screen_resolution(getattr(vzd.ScreenResolution, f"RES_{width}X{height}"))
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        for name in _HIDDEN:
            getattr(game, f"set_render_{name}")(False)
        button = vzd.Button
        game.set_available_buttons(
            [
                button.MOVE_FORWARD_BACKWARD_DELTA,
                button.MOVE_LEFT_RIGHT_DELTA,
                button.TURN_LEFT_RIGHT_DELTA,
            ]
        )
        self._variables = [getattr(vzd.GameVariable, name) for name in _VARIABLES]
        game.set_available_game_variables(self._variables)
        game.set_episode_timeout(0)
        game.add_game_args("+sv_cheats 1 +movebob 0")
        game.set_seed(seed)
        return game

    def tic(self, forward: int, left: int, turn: int, *, observe: bool = True) -> None:
        """Advances one tic: turns by ``turn`` angle steps, then thrusts along the new heading.

        Args:
            forward, left: thrust, integers within +-50.
            turn: angle steps, counter-clockwise.
            observe: whether to render and read position, velocity and angle (about 0.1 ms).
        """
        # The engine rounds towards counter-clockwise; a third of a step avoids the rounding edge.
        clockwise = (0.3 - turn) * (360.0 / ANGLE_STEPS) if turn else 0.0
        self._game.set_action([forward, -left, clockwise])
        self._game.advance_action(1, observe)
        if observe:
            read = self._game.get_game_variable
            x, y, vx, vy, degrees = (read(variable) for variable in self._variables)
            self.x, self.y, self.velocity = x, y, (vx, vy)
            self.angle = round(degrees * (ANGLE_STEPS / 360.0)) % ANGLE_STEPS

    def warp(self, x: int, y: int) -> None:
        """Moves the camera to integer map units in the next tic. Its velocity is kept."""
        self._game.send_game_command(f"warp {int(x)} {int(y)}")

    def frame(self) -> NDArray[np.uint8]:
        """The camera image of the last observed tic, a copy, uint8 [height, width, 3] RGB."""
        image = self._game.get_state().screen_buffer
        if image.shape[:2] == self.image_size:
            return np.array(image, dtype=np.uint8)
        import cv2

        height, width = self.image_size
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(resized, dtype=np.uint8)

    def close(self) -> None:
        """Ends the game and removes its temporary folder. May be called more than once."""
        self._close()


def _shut_down(game: Any, folder: Path) -> None:
    game.close()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Blocks SIGINT in this thread, and so for good in the processes that are started meanwhile.

    A Ctrl-C goes to every process of a terminal. The game must outlive it: the process that plays
    it stops the robot first and ends the game itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
