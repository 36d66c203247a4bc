"""The plots of a report: SVG inside of a page, coloured by the page's style. Pure text.

Every plot says in words or figures what it shows, so that nothing depends on colour alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from appliance.units import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.admin.report_documents import TierFill

__all__ = ["Bar", "Piece", "draw_bars", "draw_fill", "draw_stacks"]

WIDTH = 560
FILL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 240, 64, 16, 14, 30
ROW_HEIGHT, NAME_WIDTH, FIGURE_WIDTH = 28, 150, 84
STACK_ROW_HEIGHT = 40
NAME_LETTERS_MAX = 22
HORIZON_DAYS_MIN, HORIZON_DAYS_MAX = 3.0, 120.0
GRID_LINES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a bar; `colour` is CSS."""

    size: int
    colour: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of a bar plot; `note` stands under its name."""

    name: str
    pieces: tuple[Piece, ...]
    note: str = ""

    @property
    def size(self) -> int:
        """All pieces together."""
        return sum(piece.size for piece in self.pieces)


def draw_fill(fill: TierFill, *, colour: str) -> str:
    """The fill of a tier over time, its room, and the forecast with its interval.

    Args:
        fill: With its history, which may be empty.
        colour: CSS, of the line.
    """
    days = [_days_of(point.at) for point in fill.history]
    used = [point.used_bytes for point in fill.history]
    now = days[-1] if days else 0.0
    span = now - days[0] if days else 1.0
    horizon = _horizon(fill, span)
    full = fill.used_bytes + fill.room_bytes
    plot = _Plot(first=now - span, last=now + horizon, top=max(fill.total_bytes, 1))
    parts = [
        (
            f"<svg viewBox='0 0 {WIDTH} {FILL_HEIGHT}' role='img' aria-label='"
            f"{escape(f'{fill.tier}: {fill.explanation}')}'>"
        ),
        *plot.draw_grid(now),
        plot.draw_limit(full),
    ]
    if fill.growth_bytes_per_day is not None:
        parts += plot.draw_forecast(fill, now=now, full=full, colour=colour)
    if len(days) > 1:
        points = " ".join(
            f"{plot.x(day):.1f},{plot.y(size):.1f}" for day, size in zip(days, used, strict=True)
        )
        base = f"{plot.y(0):.1f}"
        parts += [
            (
                f"<polygon points='{plot.x(days[0]):.1f},{base} {points} {plot.x(now):.1f},{base}'"
                f" fill='{colour}' opacity='0.12'/>"
            ),
            (
                f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'"
                " stroke-linejoin='round'/>"
            ),
        ]
    x, y = plot.x(now), plot.y(fill.used_bytes)
    parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>", "</svg>"]
    return "".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plot:
    """Days to the right, bytes upwards."""

    first: float
    last: float
    top: int

    def x(self, day: float) -> float:
        share = (day - self.first) / max(self.last - self.first, 1e-9)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, size: float) -> float:
        share = min(max(size / self.top, 0.0), 1.0)
        return FILL_HEIGHT - BOTTOM - share * (FILL_HEIGHT - TOP - BOTTOM)

    def draw_grid(self, now: float) -> list[str]:
        """Sizes at the left, days below, and where the present is."""
        parts: list[str] = []
        right = WIDTH - RIGHT
        for number in range(GRID_LINES + 1):
            size = self.top * number // GRID_LINES
            y = self.y(size)
            parts.append(
                f"<line x1='{LEFT}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='var(--line)'/>"
                f"<text class='soft end' x='{LEFT - 8}' y='{y + 4:.1f}'>"
                f"{escape(format_size(size))}</text>"
            )
        x = self.x(now)
        bottom = FILL_HEIGHT - BOTTOM
        parts.append(
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP}' y2='{bottom}' stroke='var(--soft)'"
            f" stroke-dasharray='2 3'/><text class='soft middle' x='{x:.1f}' y='{bottom + 18}'>"
            "now</text>"
        )
        step = _step(self.last - self.first)
        for number in range(-40, 41):
            day = now + number * step
            is_apart = abs(self.x(day) - x) > 30 and self.x(day) < WIDTH - RIGHT - 12
            if number and is_apart and self.first <= day <= self.last:
                name = f"{'+' if number > 0 else '-'}{abs(number * step):g} d"
                parts.append(
                    f"<text class='soft middle' x='{self.x(day):.1f}' y='{bottom + 18}'>{name}"
                    "</text>"
                )
        return parts

    def draw_limit(self, full: int) -> str:
        """The fill at which nothing more is written."""
        y = self.y(full)
        return (
            f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y:.1f}' y2='{y:.1f}'"
            " stroke='var(--bad)' stroke-width='1.2' stroke-dasharray='6 4'/>"
            f"<text x='{LEFT + 4}' y='{y + 14:.1f}' style='fill:var(--bad)'>full</text>"
        )

    def draw_forecast(self, fill: TierFill, *, now: float, full: int, colour: str) -> list[str]:
        """The slope from now on and the band of its interval, as far as there is room."""
        low, high = fill.growth_low_bytes_per_day or 0.0, fill.growth_high_bytes_per_day or 0.0
        upper = self._list_ray(fill.used_bytes, high, now=now, full=full)
        lower = self._list_ray(fill.used_bytes, low, now=now, full=full)
        middle = self._list_ray(
            fill.used_bytes, fill.growth_bytes_per_day or 0.0, now=now, full=full
        )
        band = " ".join((*upper, *reversed(lower)))
        return [
            f"<polygon points='{band}' fill='{colour}' opacity='0.22'/>",
            (
                f"<polyline points='{' '.join(middle)}' fill='none' stroke='{colour}'"
                " stroke-width='1.6' stroke-dasharray='5 4'/>"
            ),
        ]

    def _list_ray(self, size: int, per_day: float, *, now: float, full: int) -> list[str]:
        """From now to the edge, with a knee where it meets full or empty."""
        days = self.last - now
        limit = full if per_day > 0 else 0
        points = [(now, float(size))]
        meets = (limit - size) / per_day if per_day else math.inf
        if 0 <= meets < days:
            points.append((now + meets, float(limit)))
            points.append((self.last, float(limit)))
        else:
            points.append((self.last, size + per_day * days))
        return [f"{self.x(day):.1f},{self.y(value):.1f}" for day, value in points]


def draw_bars(bars: Sequence[Bar]) -> str:
    """Names, bars and figures, one row each, on one scale."""
    most = max((bar.size for bar in bars), default=0) or 1
    height = ROW_HEIGHT * max(len(bars), 1)
    parts = [f"<svg viewBox='0 0 {WIDTH} {height}' role='img'>"]
    room = WIDTH - NAME_WIDTH - FIGURE_WIDTH
    for number, bar in enumerate(bars):
        y = number * ROW_HEIGHT
        parts.append(
            f"<text class='end' x='{NAME_WIDTH - 10}' y='{y + 18}'>{_shorten(bar.name)}"
            f"<title>{escape(bar.name)}</title></text>"
        )
        parts += _draw_pieces(bar, x=NAME_WIDTH, y=y + 5, height=18, scale=room / most)
        x = NAME_WIDTH + room * bar.size / most + 8
        parts.append(f"<text x='{x:.1f}' y='{y + 18}'>{escape(format_size(bar.size))}</text>")
    return "".join([*parts, "</svg>"])


def draw_stacks(bars: Sequence[Bar]) -> str:
    """Bars that are all of the same length: what each is made of."""
    height = STACK_ROW_HEIGHT * max(len(bars), 1)
    parts = [f"<svg viewBox='0 0 {WIDTH} {height}' role='img'>"]
    room = WIDTH - NAME_WIDTH - RIGHT
    for number, bar in enumerate(bars):
        y = number * STACK_ROW_HEIGHT
        parts.append(
            f"<text class='end' x='{NAME_WIDTH - 10}' y='{y + 16}'>{_shorten(bar.name)}</text>"
            f"<text class='soft end' x='{NAME_WIDTH - 10}' y='{y + 31}'>{escape(bar.note)}</text>"
        )
        scale = room / bar.size if bar.size else 0.0
        parts += _draw_pieces(bar, x=NAME_WIDTH, y=y + 4, height=27, scale=scale)
    return "".join([*parts, "</svg>"])


def _draw_pieces(bar: Bar, *, x: float, y: int, height: int, scale: float) -> list[str]:
    parts: list[str] = []
    for piece in bar.pieces:
        width = piece.size * scale
        if width <= 0:
            continue
        said = f"{bar.name}, {piece.meaning}: {format_size(piece.size)}"
        parts.append(
            f"<rect x='{x:.1f}' y='{y}' width='{max(width, 0.5):.1f}' height='{height}' rx='2'"
            f" fill='{piece.colour}'><title>{escape(said)}</title></rect>"
        )
        x += width
    return parts


def _shorten(name: str) -> str:
    if len(name) > NAME_LETTERS_MAX:
        name = name[: NAME_LETTERS_MAX - 1] + "…"
    return escape(name)


def _days_of(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() / 86_400


def _horizon(fill: TierFill, span: float) -> float:
    """How many days ahead the plot shows: to the end of the forecast, if that is near."""
    ends = (fill.days_until_full_high, fill.days_until_full, span)
    last = next((days for days in ends if days and days <= HORIZON_DAYS_MAX), HORIZON_DAYS_MAX)
    return min(max(last * 1.15, span * 0.4, HORIZON_DAYS_MIN), HORIZON_DAYS_MAX)


def _step(days: float) -> float:
    """Days between the marks below: about seven of them."""
    wanted = days / 7
    return next((step for step in (0.25, 0.5, 1, 2, 5, 7, 14, 30, 60) if step >= wanted), 90.0)
