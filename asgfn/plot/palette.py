"""The colours of pictures: one a category of primitives, light enough for dark text on all of them.

Any two of them also differ for red- and green-blind eyes; the tests check that. No information is in the colour alone: a
box says its operation in words.
"""

from __future__ import annotations

INK = "#1C2633"
FAINT_INK = "#5A6675"
EDGE = "#8792A2"
HIGHLIGHT = "#E08700"
PAPER = "#FFFFFF"
FRAME_BORDER = "#B9C3D1"
FRAME_FILLS = ("#F5F7FA", "#EAEEF4", "#DFE5ED")

FILLS = {
    "input": "#DFE7FF",
    "output": "#33404F",
    "constant": "#F5EDF3",
    "arithmetic": "#FDF29B",
    "transcendental": "#FFBA73",
    "activation": "#FB9B79",
    "comparison": "#CACBEA",
    "logical": "#C0A6DB",
    "reduction": "#A7E2AE",
    "contraction": "#8AC2F4",
    "window": "#58CFAD",
    "shape": "#F3F2E1",
    "indexing": "#CDAF95",
    "linalg": "#95B6FC",
    "fft": "#B6D2FF",
    "sort": "#CCDF8D",
    "random": "#FACBE2",
    "control": "#D1A2CB",
    "call": "#CABCC9",
    "callback": "#F0D24A",
    "convert": "#EDC8C7",
}
OTHER = "#DDDDDD"


def fill(category: str) -> str:
    """The fill colour of a category; an unknown one, from a third party, is grey."""
    return FILLS.get(category, OTHER)


def border(category: str) -> str:
    """A darker shade of the fill colour."""
    return darker(fill(category), 0.68)


def text_on(colour: str) -> str:
    """Dark or white, whichever is easier to read on the colour."""
    return INK if contrast(INK, colour) >= contrast(PAPER, colour) else PAPER


def darker(colour: str, factor: float) -> str:
    return "#" + "".join(f"{round(channel * factor):02X}" for channel in _channels(colour))


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    lighter, dimmer = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (lighter + 0.05) / (dimmer + 0.05)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    def linear(channel: int) -> float:
        share = channel / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
