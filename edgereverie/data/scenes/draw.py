"""Scenes as pictures: drawn four times too large, then averaged down, so that edges are smooth and bytes repeat."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from edgereverie.data.scenes.world import Scene, Thing

SIDE = 96  # pixels of the finished picture
_SCALE = 4
_CELL = SIDE * _SCALE / 3
_RGB = {
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (240, 205, 0),
    "green": (44, 160, 60),
    "blue": (40, 90, 220),
    "purple": (130, 50, 170),
    "pink": (255, 130, 190),
    "black": (30, 30, 30),
}
_RADIUS = {"small": 0.24 * _CELL, "large": 0.40 * _CELL}


def _regular(corners: int, turn: float = -90.0) -> list[tuple[float, float]]:
    angles = (math.radians(turn + 360 * i / corners) for i in range(corners))
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def _star() -> list[tuple[float, float]]:
    points = []
    for i in range(10):
        angle, radius = math.radians(-90 + 36 * i), 1.0 if i % 2 == 0 else 0.42
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


def _heart() -> list[tuple[float, float]]:
    points = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17, -y / 17))
    return points


def _drop() -> list[tuple[float, float]]:
    arc = [(0.68 * math.cos(math.radians(a)), 0.3 + 0.68 * math.sin(math.radians(a))) for a in range(-20, 201, 10)]
    return [(0.0, -1.0), *arc]


# Corner points for a radius of 1 around (0, 0), y downwards. Round shapes are painted by _paint itself.
_POLYGON = {
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": [(0.0, -0.95), (0.95, 0.8), (-0.95, 0.8)],
    "diamond": [(0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0)],
    "hexagon": _regular(6, turn=0.0),
    "star": _star(),
    "heart": _heart(),
    "drop": _drop(),
    "cross": [(-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3),
              (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3)],
    "arrow": [(-1.0, -0.22), (0.15, -0.22), (0.15, -0.75), (1.0, 0.0), (0.15, 0.75), (0.15, 0.22), (-1.0, 0.22)],
}  # fmt: skip


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _paint(draw: ImageDraw.ImageDraw, thing: Thing, x: float, y: float, background: tuple[int, int, int]) -> None:
    radius, fill = _RADIUS[thing.size], _RGB[thing.colour]
    if thing.shape in ("circle", "ring", "moon"):
        _disc(draw, x, y, 0.92 * radius, fill)
        if thing.shape == "ring":
            _disc(draw, x, y, 0.52 * radius, background)
        elif thing.shape == "moon":
            _disc(draw, x + 0.45 * radius, y - 0.12 * radius, 0.78 * radius, background)
        return
    draw.polygon([(x + radius * px, y + radius * py) for px, py in _POLYGON[thing.shape]], fill=fill)


def draw_scene(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of SIDE x SIDE pixels."""
    big = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE), scene.background)
    draw = ImageDraw.Draw(big)
    for thing, (dx, dy) in zip(scene.things, scene.jitter, strict=True):
        row, column = divmod(thing.place, 3)
        room = 0.5 * _CELL - _RADIUS[thing.size]  # keeps every thing inside its own cell
        x = (column + 0.5) * _CELL + 0.6 * room * dx
        y = (row + 0.5) * _CELL + 0.6 * room * dy
        _paint(draw, thing, x, y, scene.background)
    return big.reduce(_SCALE)
