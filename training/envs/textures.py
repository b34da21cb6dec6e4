"""Textures of freedoom2.wad that are easy to tell apart, each with its mean colour (RGB, 0-255).

None of them is animated, so that a view depends on the pose only. Mean colours are used to give
nearby walls dissimilar colours, and to draw the top-down map.
"""

from __future__ import annotations

Colour = tuple[int, int, int]

WALLS: tuple[tuple[str, Colour], ...] = (
    ("ZZWOLF9", (3, 3, 111)),
    ("ZZWOLF11", (80, 24, 22)),
    ("ZZWOLF1", (90, 90, 90)),
    ("ZZWOLF3B", (54, 54, 107)),
    ("SHAWN2", (110, 110, 110)),
    ("REDWALL1", (193, 0, 0)),
    ("STWALL", (185, 119, 73)),
    ("BRICK12", (112, 89, 69)),
    ("DOKGRIR", (59, 127, 47)),
    ("DOGLDIR", (157, 102, 60)),
    ("A-MYWOOD", (84, 59, 34)),
    ("AQLITE07", (7, 7, 187)),
    ("AQLITE15", (190, 184, 12)),
    ("AQLITE10", (59, 110, 51)),
    ("AQLITE13", (187, 7, 7)),
    ("AQLITE11", (174, 85, 17)),
    ("GRAYRED", (120, 36, 31)),
    ("MARBLE2", (66, 70, 46)),
    ("COMPBLUE", (0, 0, 71)),
    ("GRAYBIG", (128, 128, 128)),
    ("MURAL1", (171, 111, 67)),
    ("ROCK3", (33, 34, 32)),
    ("AQPANL09", (97, 73, 37)),
    ("SPACEW3", (26, 27, 25)),
    ("CRLWDL6", (81, 58, 29)),
    ("REDWALL", (112, 18, 18)),
    ("STARBR2", (120, 81, 48)),
    ("CRATE1", (113, 90, 62)),
    ("CEMENT3", (136, 133, 130)),
    ("A-CAMO1", (33, 79, 27)),
    ("AQBRIK02", (137, 91, 52)),
)

FLOORS: tuple[tuple[str, Colour], ...] = (
    ("CRATOP1", (80, 80, 80)),
    ("CRATOP2", (113, 90, 61)),
    ("AQF022", (36, 70, 23)),
    ("FLOOR1_6", (118, 0, 0)),
    ("FLAT14", (0, 0, 85)),
    ("AQF025", (102, 102, 102)),
    ("FLAT5", (108, 72, 39)),
    ("MFLR8_4", (45, 44, 43)),
    ("RROCK20", (67, 74, 47)),
    ("FLOOR0_1", (115, 92, 72)),
    ("FLAT10", (46, 29, 13)),
    ("FLAT5_3", (115, 20, 20)),
)

CEILINGS: tuple[tuple[str, Colour], ...] = (
    ("CEIL3_5", (55, 55, 55)),
    ("FLAT19", (104, 104, 104)),
    ("CEIL3_3", (89, 69, 45)),
    ("CEIL4_1", (0, 0, 25)),
    ("FLOOR7_2", (53, 61, 35)),
    ("FLOOR6_1", (87, 0, 0)),
    ("CEIL5_1", (38, 38, 38)),
    ("FLOOR0_2", (119, 79, 43)),
)

#: Colours of light as UDMF numbers 0xRRGGBB, pale, so that textures keep their colours.
LIGHTS: tuple[int, ...] = (0xFFFFFF, 0xFFE8D0, 0xD8E8FF, 0xE0FFD8, 0xFFDCEC, 0xFFF6C8)

#: Sides of objects: boxes, panels, shelves and metal.
OBJECTS: tuple[tuple[str, Colour], ...] = (
    ("CRATE2", (80, 80, 78)),
    ("CRATE3", (97, 85, 70)),
    ("CRATELIT", (97, 85, 72)),
    ("PANBOOK", (94, 72, 48)),
    ("SILVER1", (117, 117, 117)),
    ("COMPUTE1", (98, 99, 102)),
    ("WOOD8", (66, 48, 31)),
    ("PLAT1", (64, 58, 51)),
    ("METAL3", (35, 31, 23)),
    ("SUPPORT2", (88, 88, 88)),
    ("ZELDOOR", (94, 93, 93)),
    ("AQRUST05", (70, 60, 50)),
    ("BRONZE1", (61, 44, 23)),
    ("AQSECT03", (58, 51, 43)),
    ("PANCASE1", (90, 64, 34)),
)

#: Walls of large worlds, which have more of them.
MORE_WALLS: tuple[tuple[str, Colour], ...] = (
    *WALLS,
    ("PANRED", (105, 56, 27)),
    ("PANBLUE", (77, 56, 53)),
    ("STUCCO1", (85, 66, 49)),
    ("CEMENT6", (123, 121, 118)),
    ("PORAN", (243, 115, 23)),
    ("MARBLE1", (71, 75, 49)),
    ("SMSTONE6", (81, 99, 53)),
    ("STARG1", (103, 105, 80)),
    ("STARTAN2", (113, 92, 72)),
    ("ESPIG1", (81, 87, 59)),
    ("AQCONC05", (52, 40, 22)),
    ("SP_HOT1", (98, 0, 0)),
    ("A-CAMO4", (42, 89, 32)),
    ("SKIRTING", (145, 96, 56)),
    ("TANROCK2", (132, 108, 86)),
    ("WOOD12", (81, 61, 40)),
    ("ICKWALL1", (109, 109, 109)),
    ("A-TILE", (52, 66, 39)),
    ("AQPIPE04", (36, 31, 22)),
    ("GSTONE1", (63, 67, 43)),
)
