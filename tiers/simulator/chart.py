"""A comparison as one SVG: hit ratio along the trace, and what each policy moved. Pure text.

Colours are told apart by brightness as well, and every line is named at its end, so that the plot
reads in grey and without a legend.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiers.simulator.replay import Replay

__all__ = ["draw_comparison"]

WIDTH, HEIGHT = 960, 460
LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 56, 64, 470, 330
BAR_LEFT, BAR_WIDTH = 720, 150
BAR_STEP = 62
LABEL_GAP = 15  # between names at the ends of lines
SMOOTH_POINTS = 3  # on either side of a point

_COLOURS = {
    "policy": "#0b6e4f",
    "LRU": "#c8553d",
    "LFU": "#b8a06a",
    "S3-FIFO": "#3d5a98",
    "MIN": "#8a8a8a",
}
_INK, _FAINT, _GRID = "#222222", "#666666", "#e4e4e4"
_FONT = "font-family='system-ui, sans-serif'"


def draw_comparison(replays: Sequence[Replay], *, title: str, subtitle: str) -> str:
    """The SVG document.

    Args:
        replays: At least one; the policy's run first.
        title: What was replayed.
        subtitle: Under which conditions.
    """
    parts = [
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}'"
            f" width='{WIDTH}' height='{HEIGHT}' {_FONT} font-size='12' fill='{_INK}'>"
        ),
        f"<title>{escape(title)}</title>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>",
        f"<text x='{LEFT}' y='26' font-size='17' font-weight='600'>{escape(title)}</text>",
        f"<text x='{LEFT}' y='44' fill='{_FAINT}'>{escape(subtitle)}</text>",
        *_draw_grid(),
        *_draw_lines(replays),
        *_draw_bars(replays),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _draw_grid() -> list[str]:
    parts: list[str] = []
    bottom = TOP + PLOT_HEIGHT
    for percent in range(0, 101, 20):
        y = bottom - PLOT_HEIGHT * percent / 100
        parts += [
            (
                f"<line x1='{LEFT}' x2='{LEFT + PLOT_WIDTH}' y1='{y:.1f}' y2='{y:.1f}'"
                f" stroke='{_GRID}'/>"
            ),
            (
                f"<text x='{LEFT - 8}' y='{y + 4:.1f}' text-anchor='end' fill='{_FAINT}'>"
                f"{percent} %</text>"
            ),
        ]
    axis = "reads found on the fast tier, along the trace from its beginning to its end"
    parts.append(f"<text x='{LEFT}' y='{bottom + 26}' fill='{_FAINT}'>{axis}</text>")
    return parts


def _draw_lines(replays: Sequence[Replay]) -> list[str]:
    parts: list[str] = []
    labels: list[tuple[float, Replay]] = []
    for replay in reversed(replays):
        values = _smooth(replay.curve)
        step = PLOT_WIDTH / max(len(values) - 1, 1)
        points = " ".join(
            f"{LEFT + number * step:.1f},{_y(value):.1f}" for number, value in enumerate(values)
        )
        is_policy = replay is replays[0]
        parts.append(
            f"<polyline points='{points}' fill='none' stroke='{_colour(replay)}'"
            f" stroke-width='{2.6 if is_policy else 1.4}' stroke-linejoin='round'/>"
        )
        labels.append((_y(values[-1]), replay))
    return [*parts, *_draw_labels(labels)]


def _draw_labels(labels: list[tuple[float, Replay]]) -> list[str]:
    """Names at the ends of the lines, pushed apart where they would overlap."""
    ordered = sorted(labels, key=lambda label: label[0])
    # The lowest name must stay inside the plot, whatever is above it.
    lowest = TOP + PLOT_HEIGHT - LABEL_GAP * (len(ordered) - 1)
    parts: list[str] = []
    y = -float(HEIGHT)
    for number, (wanted, replay) in enumerate(ordered):
        y = max(y + LABEL_GAP, min(wanted, lowest + LABEL_GAP * number))
        weight = " font-weight='600'" if replay.name == "policy" else ""
        parts.append(
            f"<text x='{LEFT + PLOT_WIDTH + 8}' y='{y + 4:.1f}' fill='{_colour(replay)}'{weight}>"
            f"{escape(replay.name)} {replay.hit_ratio:.1%}</text>"
        )
    return parts


def _draw_bars(replays: Sequence[Replay]) -> list[str]:
    most = max(*(replay.promoted + replay.demoted for replay in replays), 1e-09)
    head = "bytes moved, in units of the footprint"
    parts = [f"<text x='{BAR_LEFT - 60}' y='{TOP - 2}' fill='{_FAINT}'>{head}</text>"]
    for number, replay in enumerate(replays):
        y = TOP + 18 + number * BAR_STEP
        moved = replay.promoted + replay.demoted
        width = BAR_WIDTH * moved / most
        parts += [
            f"<text x='{BAR_LEFT - 8}' y='{y + 18}' text-anchor='end'>{escape(replay.name)}</text>",
            (
                f"<rect x='{BAR_LEFT}' y='{y}' width='{width:.1f}' height='28' rx='2'"
                f" fill='{_colour(replay)}'/>"
            ),
            f"<text x='{BAR_LEFT + width + 6:.1f}' y='{y + 18}'>{moved:.2f}</text>",
        ]
    return parts


def _smooth(values: Sequence[float]) -> list[float]:
    """Each value as the mean of itself and its neighbours."""
    smoothed: list[float] = []
    for number in range(len(values)):
        near = values[max(number - SMOOTH_POINTS, 0) : number + SMOOTH_POINTS + 1]
        smoothed.append(sum(near) / len(near))
    return smoothed or [0.0]


def _y(share: float) -> float:
    return TOP + PLOT_HEIGHT * (1.0 - share)


def _colour(replay: Replay) -> str:
    return _COLOURS.get(replay.name, _INK)
