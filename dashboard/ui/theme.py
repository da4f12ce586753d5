"""Colours that figures set themselves, for the light and the dark theme. They match .streamlit/config.toml."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import streamlit as st

__all__ = ["DARK", "KINDS", "LIGHT", "Theme", "current"]

# Span kinds in the order in which legends list them.
KINDS: Final = ("agent", "llm", "tool", "retriever", "chain", "embedding", "guardrail", "evaluator", "other")


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance, as CSS hex values; `series` for categories, `kinds` by span kind."""

    name: Literal["light", "dark"]
    text: str
    muted: str
    grid: str
    surface: str
    accent: str
    band: str
    error: str
    series: tuple[str, ...]
    kinds: dict[str, str]

    @property
    def layout(self) -> dict[str, Any]:
        """What every figure's layout begins with: the page shines through it, and through the bar with its button."""
        clear = "rgba(0,0,0,0)"
        bar = {"bgcolor": clear, "color": self.muted, "activecolor": self.text}
        # Names of axes have their room in low figures too: else Plotly keeps 64 px for the middle and writes over them.
        return {
            "paper_bgcolor": clear, "plot_bgcolor": clear, "font": {"color": self.text}, "modebar": bar,
            "minreducedheight": 24,
        }  # fmt: skip


def _kinds(series: tuple[str, ...], muted: str) -> dict[str, str]:
    blue, orange, green, pink, sky, vermilion, grey, olive = series
    colours = (grey, blue, orange, green, sky, olive, pink, vermilion, muted)
    return dict(zip(KINDS, colours, strict=True))


_LIGHT_SERIES = ("#0072B2", "#D07F00", "#00855F", "#B0528A", "#2A8FC7", "#BF4A00", "#6B7A89", "#857300")
_DARK_SERIES = ("#56B4E9", "#F0AE2E", "#2FC49A", "#E293C3", "#9AD0F2", "#FF8A4C", "#A9B6C2", "#E3D34C")

LIGHT: Final = Theme(
    name="light",
    text="#0A131B",
    muted="#5B6B79",
    grid="#E4EAEF",
    surface="#FFFFFF",
    accent="#0B5C7A",
    band="rgba(11, 92, 122, 0.16)",
    error="#B5391A",
    series=_LIGHT_SERIES,
    kinds=_kinds(_LIGHT_SERIES, "#93A1AD"),
)

DARK: Final = Theme(
    name="dark",
    text="#E4EAF0",
    muted="#9AA8B5",
    grid="#26323D",
    surface="#0F161D",
    accent="#6FBBDA",
    band="rgba(111, 187, 218, 0.20)",
    error="#FF8A66",
    series=_DARK_SERIES,
    kinds=_kinds(_DARK_SERIES, "#6B7986"),
)


def current() -> Theme:
    """The appearance of this browser; light until the browser has said which it uses."""
    return DARK if st.context.theme.type == "dark" else LIGHT
