"""Settings of the simulation are checked before anything is drawn."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from pipelines.simulate import SimulationConfig
from store.errors import SettingsError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("users", 19),
        ("users", 100.0),
        ("users", True),
        ("users", "400"),
        ("days", 6),
        ("days", 731),
        ("traces", 99),
        ("traces", 5_000_001),
        ("seed", -1),
        ("exploration_rate", 1.01),
        ("exploration_rate", float("nan")),
        ("solicitation_rate", -0.1),
        ("swap_rate", 1.0),
        ("drift_share", 0.3),
        ("contradiction_share", None),
        ("injections", 0),
        ("end", "2026-11-20"),
        ("end", datetime(2026, 11, 20, tzinfo=UTC)),
        ("end", date(1970, 1, 5)),
        ("end", date(2170, 1, 1)),
        ("model_change_day", 0),
        ("model_change_day", 28),
        ("model_change_day", 3.5),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    values: dict[str, Any] = {name: value}
    with pytest.raises(SettingsError) as caught:
        SimulationConfig(**values)
    assert caught.value.name == name
    assert "expected" in str(caught.value)


def test_there_is_a_trace_for_every_user() -> None:
    with pytest.raises(SettingsError, match="at least one per user"):
        SimulationConfig(users=1000, traces=999)


def test_the_period_ends_with_its_last_day() -> None:
    config = SimulationConfig(days=28, end=date(2026, 11, 20))
    assert config.start == datetime(2026, 10, 24, tzinfo=UTC)
    assert config.until == datetime(2026, 11, 21, tzinfo=UTC)
    assert 0 < config.deployment_day < config.change_day < config.days


@pytest.mark.parametrize("day", [1, 27])
def test_the_day_of_the_model_change_can_be_chosen(day: int) -> None:
    assert SimulationConfig(model_change_day=day).change_day == day
