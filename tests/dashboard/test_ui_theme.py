"""Colours: the figures' match the configuration, and all can be read."""

import tomllib
from pathlib import Path

import pytest

from dashboard.ui.theme import DARK, KINDS, LIGHT

CONFIG = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


def _contrast(one, other):
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_figures_use_the_colours_of_the_configuration(theme):
    section = CONFIG["theme"][theme.name]
    assert list(theme.series) == section["chartCategoricalColors"]
    assert theme.text == section["textColor"]
    assert theme.surface == section["backgroundColor"]
    assert theme.error == section["redColor"]
    assert set(theme.kinds) == set(KINDS)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_and_marks_can_be_told_from_the_background(name):
    section = CONFIG["theme"][name]
    for background in (section["backgroundColor"], section["secondaryBackgroundColor"], section["codeBackgroundColor"]):
        for key in ("textColor", "linkColor", "codeTextColor", "redColor", "greenColor", "grayColor"):
            assert _contrast(section[key], background) >= 4.5, (key, background)
    for colour in section["chartCategoricalColors"]:
        assert _contrast(colour, section["backgroundColor"]) >= 3.0, colour
    assert _contrast("#FFFFFF", section["primaryColor"]) >= 3.9


def test_nothing_is_loaded_from_the_network():
    text = (Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    assert "http" not in text
    assert CONFIG["browser"]["gatherUsageStats"] is False
