"""Maps as ViZDoom loads them: lines and sectors in UDMF, and the WAD file that holds a map."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.envs.world import Face

#: Size of a map's text in its file, above that of the largest world.
MAP_BYTES = 1 << 19
_TEXT_AT = 12  # behind the header of a WAD file


@dataclass(frozen=True)
class Step:
    """The visible part of a boundary between two sectors: a lintel above, an object below.

    Attributes:
        top, bottom: textures above a lower ceiling and below a higher floor; empty: not visible.
    """

    top: str = ""
    bottom: str = ""


@dataclass(frozen=True)
class Passage:
    """A boundary between two sectors, from (x0, y0) to (x1, y1).

    Attributes:
        right, left: sectors on the right and on the left of its direction.
        right_step, left_step: what is seen of it from the right and from the left.
        blocking: whether the robot cannot cross it.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    right: int
    left: int
    right_step: Step = Step()
    left_step: Step = Step()
    blocking: bool = False


@dataclass(frozen=True)
class Sector:
    """Floor, ceiling and light of a sector; heights in map units, ``light`` from 0 to 255."""

    floor: str
    ceiling: str
    light: int
    light_colour: int
    floor_height: int = 0
    ceiling_height: int = 96

    def text(self) -> str:
        return (
            f"sector{{heightfloor={self.floor_height};heightceiling={self.ceiling_height};"
            f'texturefloor="{self.floor}";textureceiling="{self.ceiling}";'
            f"lightlevel={self.light};lightcolor={self.light_colour};}}"
        )


def write_textmap(
    faces: Sequence[Face],
    passages: Sequence[Passage],
    sectors: Sequence[Sector],
    start: tuple[int, int],
) -> str:
    """The text of a map in which the player starts at ``start``."""
    vertices: dict[tuple[int, int], int] = {}
    sides: list[str] = []
    lines: list[str] = []

    def vertex(x: int, y: int) -> int:
        return vertices.setdefault((x, y), len(vertices))

    for face in faces:
        ends = f"v1={vertex(face.x0, face.y0)};v2={vertex(face.x1, face.y1)};"
        lines.append(f"linedef{{{ends}sidefront={len(sides)};blocking=true;}}")
        sides.append(f'sidedef{{sector={face.sector};texturemiddle="{face.texture}";}}')
    for item in passages:
        ends = f"v1={vertex(item.x0, item.y0)};v2={vertex(item.x1, item.y1)};"
        both = f"sidefront={len(sides)};sideback={len(sides) + 1};twosided=true;"
        blocking = "blocking=true;" if item.blocking else ""
        lines.append(f"linedef{{{ends}{both}{blocking}}}")
        sides += [_side(item.right, item.right_step), _side(item.left, item.left_step)]
    skills = "".join(f"skill{i}=true;" for i in range(1, 6))
    thing = f"thing{{x={start[0]};y={start[1]};angle=0;type=1;{skills}single=true;}}"
    points = [f"vertex{{x={x};y={y};}}" for x, y in vertices]
    text = ['namespace="zdoom";', *points, *sides, *lines, *(s.text() for s in sectors), thing]
    return "\n".join(text) + "\n"


def _side(sector: int, step: Step) -> str:
    top = f'texturetop="{step.top}";' if step.top else ""
    bottom = f'texturebottom="{step.bottom}";' if step.bottom else ""
    return f"sidedef{{sector={sector};{top}{bottom}}}"


class MapFile:
    """A PWAD with one map, MAP01, whose text can be replaced while the game runs.

    The game keeps the file open, remembers where its parts lie, and reads them whenever it loads
    the map; hence the text is filled up with blanks to one size, and written in place.

    Args:
        path: the file, which is created.
        textmap: the first map.
    """

    def __init__(self, path: Path, textmap: str) -> None:
        self.path = path
        header = struct.pack("<4sii", b"PWAD", 3, _TEXT_AT + MAP_BYTES)
        parts = ((b"MAP01", 0), (b"TEXTMAP", MAP_BYTES), (b"ENDMAP", 0))
        directory = b"".join(struct.pack("<ii8s", _TEXT_AT, size, name) for name, size in parts)
        path.write_bytes(header + _filled_up(textmap) + directory)

    def replace(self, textmap: str) -> None:
        """Writes another map; the game shows it when it next loads the map."""
        with self.path.open("r+b") as file:
            file.seek(_TEXT_AT)
            file.write(_filled_up(textmap))


def _filled_up(textmap: str) -> bytes:
    text = textmap.encode("ascii")
    assert len(text) <= MAP_BYTES, "a map of the largest allowed size fits"
    return text.ljust(MAP_BYTES)
