"""People lean on their segment: against worlds whose segments are known, and against hostile ones."""

import json
from dataclasses import replace

import measured_world
import numpy as np
import polars as pl
import pytest
from measured_world import NOW, World
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from pipelines.rewards.measured import LENIENCY, TRACES, MeasurementConfig, MeasurementFit
from pipelines.rewards.measurement import fit
from pipelines.rewards.segment_priors import Sites, segment_priors, sites_of, stated_segments

CONFIG = MeasurementConfig(now=NOW)
Z = 1.96
PEOPLE, SEGMENTS = 400, 4


def _world(seed: int) -> tuple[World, NDArray[np.float64], NDArray[np.int64]]:
    """A world of four segments that differ, what being of each adds to quality and leniency, everybody's segment."""
    rng = np.random.default_rng(seed + 5000)
    group = np.arange(PEOPLE) % SEGMENTS
    shift = rng.normal(0.0, 1.0, (SEGMENTS, 2)) * np.array([0.4, 0.5])
    shift -= shift.mean(axis=0)
    names = [f"s{i}" for i in group]
    return measured_world.build(seed, users=PEOPLE, sessions=4, segment=names, shift=shift[group]), shift, group


def _named(world: World, names: list[str | None]) -> pl.DataFrame:
    """The world's traces with these segments by person."""
    return world.traces.with_columns(segment=pl.Series([names[i] for i in world.user], dtype=pl.String))


def _plain(found: MeasurementFit) -> pl.DataFrame:
    return found.leniency.drop("leans_on_what", "segment")


@pytest.fixture(scope="module")
def replications() -> list[tuple[World, NDArray[np.float64], NDArray[np.int64], MeasurementFit, MeasurementFit]]:
    """Worlds with their fits, told of the segments and not."""
    made = [(_world(seed)) for seed in range(10)]
    return [
        (world, shift, group, fit(world.traces, world.signals, CONFIG),
         fit(world.traces.drop("segment"), world.signals, CONFIG))
        for world, shift, group in made
    ]  # fmt: skip


@pytest.mark.thorough
def test_people_with_few_events_are_closer_to_the_truth_of_their_segment(
    replications: list[tuple[World, NDArray[np.float64], NDArray[np.int64], MeasurementFit, MeasurementFit]],
) -> None:
    """Measured: root mean squared error .48 logits with segments, .58 without; distance to the segment halves."""
    errors: list[float] = []
    plain: list[float] = []
    distance: list[float] = []
    plain_distance: list[float] = []
    for world, shift, group, told, untold in replications:
        truth = pl.DataFrame(
            {"user_id": [f"u{i}" for i in range(PEOPLE)], "truth": world.leniency, "segment_truth": shift[group, 1]}
        )
        for found, own, to_segment in ((told, errors, distance), (untold, plain, plain_distance)):
            few = found.leniency.join(truth, on="user_id").filter(pl.col("events").is_between(0, 3))
            own.append(float(((few["leniency"] - few["truth"]) ** 2).to_numpy().mean()))
            to_segment.append(float((few["leniency"] - few["segment_truth"]).abs().to_numpy().mean()))
    assert np.mean(errors) < 0.8 * np.mean(plain)
    assert np.mean(distance) < 0.7 * np.mean(plain_distance)


def test_intervals_of_people_and_segments_cover_at_their_nominal_rate(
    replications: list[tuple[World, NDArray[np.float64], NDArray[np.int64], MeasurementFit, MeasurementFit]],
) -> None:
    people, segments = [], []
    for world, shift, _, told, _ in replications:
        truth = pl.DataFrame({"user_id": [f"u{i}" for i in range(PEOPLE)], "truth": world.leniency})
        rows = told.leniency.join(truth, on="user_id")
        people.append(((rows["leniency"] - rows["truth"]).abs() <= Z * rows["sd"]).to_numpy().mean())
        for one in told.parameters["agents"][0]["segments"]:
            quality, leniency = shift[int(one["name"][1:])]
            segments.append(abs(one["leniency"] - leniency) <= Z * one["leniency_sd"])
            segments.append(abs(one["quality"] - quality) <= Z * one["quality_sd"])
    assert 0.93 <= np.mean(people) <= 0.97
    assert len(segments) == 80
    assert np.mean(segments) >= 0.88  # ten worlds are coarse; the strict bounds are in the Gaussian test below


def test_the_frame_says_what_everybody_leans_on(
    replications: list[tuple[World, NDArray[np.float64], NDArray[np.int64], MeasurementFit, MeasurementFit]],
) -> None:
    _, _, group, told, untold = replications[0]
    assert told.leniency.schema == LENIENCY
    named = dict(told.leniency.select("user_id", "leans_on_what").iter_rows())
    assert all(named[f"u{i}"] == f"s{group[i]}" for i in range(PEOPLE))
    assert told.leniency["leans_on"].is_between(0.0, 1.0).all()
    silent = told.leniency.filter(pl.col("events") == 0)["leans_on"].to_numpy().mean()
    assert silent > told.leniency.filter(pl.col("events") >= 4)["leans_on"].to_numpy().mean()
    assert untold.leniency["leans_on_what"].unique().to_list() == ["agent"]
    assert "segments" in told.notes["reason"].to_list()
    assert "segments" not in untold.notes["reason"].to_list()
    json.dumps(told.parameters, allow_nan=False)


@pytest.fixture(scope="module")
def small() -> World:
    return measured_world.build(5, users=60, sessions=5, solicited=0.2)


@pytest.fixture(scope="module")
def untold(small: World) -> MeasurementFit:
    return fit(small.traces.drop("segment"), small.signals, CONFIG)


@pytest.mark.parametrize("value", [None, ""])
def test_no_segment_is_the_agent_to_the_last_digit(small: World, untold: MeasurementFit, value: str | None) -> None:
    found = fit(_named(small, [value] * 60), small.signals, CONFIG)
    assert_frame_equal(found.leniency, untold.leniency, check_exact=True)
    assert_frame_equal(found.evidence, untold.evidence, check_exact=True)
    assert found.parameters == untold.parameters


def test_one_segment_of_everybody_is_the_agent(small: World, untold: MeasurementFit) -> None:
    found = fit(_named(small, ["all"] * 60), small.signals, CONFIG)
    assert_frame_equal(found.leniency, untold.leniency, check_exact=True)
    assert found.notes.filter(pl.col("reason") == "segments")["text"][0].startswith("0 people lean on")


def test_one_segment_beside_people_of_none(small: World) -> None:
    found = fit(_named(small, [None if i % 2 else "half" for i in range(60)]), small.signals, CONFIG)
    counts = dict(found.leniency["leans_on_what"].value_counts().iter_rows())
    assert counts == {"half": 30, "agent": 30}


def test_a_segment_of_three_people_falls_back_to_the_agent(small: World, untold: MeasurementFit) -> None:
    names: list[str | None] = ["three"] * 3 + ["rest"] * 25 + [None] * 32
    found = fit(_named(small, names), small.signals, CONFIG)
    rows = {row["user_id"]: row for row in found.leniency.to_dicts()}
    assert {rows[f"u{i}"]["leans_on_what"] for i in range(3)} == {"agent"}
    assert {rows[f"u{i}"]["leans_on_what"] for i in range(3, 28)} == {"rest"}
    three = [f"u{i}" for i in range(3)]
    assert_frame_equal(
        _plain(found).filter(pl.col("user_id").is_in(three)),
        _plain(untold).filter(pl.col("user_id").is_in(three)),
        check_exact=True,
    )


@pytest.mark.parametrize(("people", "expected"), [(19, "agent"), (20, "s")])
def test_twenty_people_are_enough(small: World, people: int, expected: str) -> None:
    names: list[str | None] = ["s"] * people + [None] * (60 - people)
    found = fit(_named(small, names), small.signals, CONFIG)
    assert found.leniency.filter(pl.col("user_id") == "u0")["leans_on_what"].to_list() == [expected]


@pytest.mark.parametrize(
    "name",
    ["'; DROP TABLE traces; --", "<script>alert(1)</script>", "agent", "a\x00b", "\u202eevil", " ", "x" * 100_000],
)
def test_hostile_names_are_only_names(small: World, name: str) -> None:
    names: list[str | None] = [name if i % 2 else "other" for i in range(60)]
    found = fit(_named(small, names), small.signals, CONFIG)
    calm = fit(_named(small, ["zz" if i % 2 else "other" for i in range(60)]), small.signals, CONFIG)
    numbers = ["leniency", "sd", "leans_on", "satisfaction", "satisfaction_sd"]
    np.testing.assert_allclose(found.leniency.select(numbers), calm.leniency.select(numbers), rtol=1e-8)
    assert set(found.leniency["segment"].to_list()) == {name, "other"}
    assert len(json.dumps(found.parameters)) < 20_000


def test_people_without_an_id_are_no_people_to_count(small: World) -> None:
    nobody = pl.lit(None, dtype=pl.String)
    traces = _named(small, ["a" if i % 2 else "b" for i in range(60)]).with_columns(user_id=nobody)
    found = fit(traces, small.signals.with_columns(user_id=nobody), CONFIG)
    assert found.leniency.is_empty()
    assert found.parameters["agents"][0]["segments"] == []


def test_where_people_only_say_things_segments_differ_in_leniency_alone(small: World) -> None:
    said = small.signals.filter((pl.col("kind") == "thumb") & pl.col("solicited"))
    found = fit(_named(small, ["a" if i % 2 else "b" for i in range(60)]), said, CONFIG)
    assert "leniency_not_separable" in found.notes["reason"].to_list() or "leniency_assumed" in found.notes["reason"]
    assert {one["quality_sd"] for one in found.parameters["agents"][0]["segments"]} == {0.0}
    assert found.leniency.select("leniency", "sd", "satisfaction").to_numpy().all()


def test_a_person_of_two_agents_leans_on_one_segment(small: World) -> None:
    other = measured_world.build(6, users=60, sessions=2, solicited=0.2, agent="b")
    names: list[str | None] = ["x" if i % 2 else "y" for i in range(60)]
    traces = pl.concat([_named(small, names), _named(replace(other), names)])
    found = fit(traces, pl.concat([small.signals, other.signals]), CONFIG)
    assert dict(found.leniency["leans_on_what"].value_counts().iter_rows()) == {"x": 30, "y": 30}
    assert (found.leniency["sd"] > 0.0).all()


# ----- the parts -----


def test_the_latest_segment_that_a_person_states_counts() -> None:
    moments = [NOW.replace(day=1), NOW.replace(day=2), NOW.replace(day=3), None, NOW]
    traces = pl.DataFrame(
        {
            "trace_id": list("abcde"),
            "user": [0, 0, 0, 0, 1],
            "user_id": ["u", "u", "u", "u", None],
            "segment": ["old", "new", "", "timeless", "lost"],
            "done_at": moments,
        },
        schema_overrides={"done_at": TRACES["started_at"]},
    )
    assert stated_segments(traces).rows() == [(0, "new")]


def test_gaussian_people_give_the_textbook_posterior() -> None:
    """Against direct integration over ψ of the normal-normal model by dense matrices, in leniency alone: y = m + a + e
    with a flat prior on m, and b the contrasts of a.
    """
    rng = np.random.default_rng(1)
    sizes, tau, noise = np.array([40, 25, 60]), 0.7, 0.5
    segment = np.concatenate([np.repeat(np.arange(3), sizes), np.full(30, -1)])
    n = len(segment)
    seen = np.array([0.6, -0.3, 0.0, 0.2])[segment] + rng.normal(0.0, 0.8, n)
    precision = np.zeros((n, 2, 2))
    precision[:, 1, 1] = noise**-2
    pull = np.stack([np.zeros(n), seen / noise**2], axis=1)
    shares = sizes / n
    found = segment_priors(Sites(precision, pull), segment, shares, np.array([0.0, tau]))
    assert found is not None
    balance = shares.sum() - (shares**2).sum()
    of = (segment[:, None] == np.arange(3)).astype(float)
    contrast, one = np.eye(3) - shares, np.ones(n)
    psi = np.linspace(0.0, min(np.sqrt(0.85 / balance), 3.0), 10)
    log_weight, means, variances = [], [], []
    for share in psi:
        within = np.where(segment >= 0, tau**2 * (1.0 - balance * share**2), tau**2) + noise**2
        inverse = np.linalg.inv(np.diag(within) + (share * tau) ** 2 * of @ of.T)
        centred = inverse - np.outer(inverse @ one, one @ inverse) / (one @ inverse @ one)
        sign = np.linalg.slogdet(inverse)[1] - np.log(one @ inverse @ one) - seen @ centred @ seen
        log_weight.append(0.5 * sign + np.log(max(share, 1e-9)))  # flat in ψ²
        gain = (share * tau) ** 2 * contrast @ of.T
        means.append(gain @ centred @ seen)
        variances.append(np.diag((share * tau) ** 2 * contrast @ contrast.T - gain @ centred @ gain.T))
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    expected = weight @ np.array(means)
    spread = weight @ (np.array(variances) + (np.array(means) - expected) ** 2)
    np.testing.assert_allclose(found.mean[:, 1], expected, atol=1e-7)
    np.testing.assert_allclose(found.covariance[:, 1, 1], spread, atol=1e-7)
    np.testing.assert_array_equal(found.mean[:, 0], 0.0)


@pytest.mark.thorough
@pytest.mark.parametrize("sizes", [(90, 10, 0), (25, 25, 25, 25, 0), (40, 15, 45)])
def test_intervals_of_segments_cover_also_where_they_are_of_unequal_size(sizes: tuple[int, ...]) -> None:
    """Gaussian people, the last of no segment. Before segments were contrasts: .99 of the large, .85 of the small."""
    rng = np.random.default_rng(sum(sizes[:2]))
    segment = np.repeat([*range(len(sizes) - 1), -1], sizes)
    shares = np.array(sizes[:-1]) / 100
    spread, noise = np.array([0.5, 0.6]), np.array([0.6, 0.8])
    precision = np.tile(np.diag(noise**-2), (100, 1, 1))
    inside = []
    for _ in range(150):
        effect = np.concatenate([rng.normal(0.0, 0.7, (len(shares), 2)) * spread, np.zeros((1, 2))])
        truth = effect[:-1] - shares @ effect[:-1]
        people = effect[segment] - shares @ effect[:-1] + rng.normal(0.0, 0.8, (100, 2)) * spread
        seen = people + rng.normal(0.0, 1.0, (100, 2)) * noise
        whole = np.sqrt((shares.sum() - (shares**2).sum()) * 0.49 + 0.64) * spread
        found = segment_priors(Sites(precision, seen / noise**2), segment, shares, whole)
        assert found is not None
        sd = np.sqrt(np.einsum("gii->gi", found.covariance))
        inside.append(np.abs(found.mean - truth) <= Z * sd)
    assert 0.93 <= np.mean(inside) <= 0.97  # .942, .940 and .945 of 300


def test_a_posterior_without_its_prior_is_what_the_events_say() -> None:
    prior = np.array([0.4, 0.6])
    precision = np.array([[[3.0, 0.5], [0.5, 2.0]], [[0.0, 0.0], [0.0, 1.0]]])
    location = np.array([[0.2, -0.4], [0.0, 0.9]])
    pull = np.einsum("uij,uj->ui", precision, location)
    covariance = np.linalg.inv(precision + np.diag(prior**-2.0))
    found = sites_of(np.einsum("uij,uj->ui", covariance, pull), covariance, prior)
    np.testing.assert_allclose(found.precision, precision, atol=1e-6)
    np.testing.assert_allclose(found.pull, pull, atol=1e-6)
