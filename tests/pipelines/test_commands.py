"""The command line on a store that no server holds: output, exit codes, errors."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.__main__ import MODULES, main
from pipelines.ingest.mapping import Mapping, Rule
from pipelines.ingest.transforms import Transform
from pipelines.jobs import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
TRACES = "trace_id,agent,input_tokens\na,bot,1\nb,bot,2\n"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("TRIMTAB_")]:
        monkeypatch.delenv(variable)

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces.csv"
    path.write_text(TRACES)
    return path


def test_ingest_tells_what_became_of_every_record(run: Run, traces: Path) -> None:
    code, out, err = run("ingest", traces)
    assert (code, err) == (0, "")
    assert "2 received = 2 accepted + 0 duplicate + 0 rejected" in out
    assert "new: 2 traces, 0 spans, 0 signals" in out
    code, out, _ = run("ingest", traces)
    assert code == 0
    assert "2 received = 0 accepted + 2 duplicate + 0 rejected" in out


def test_ingest_json_prints_one_object_a_file(run: Run, traces: Path, tmp_path: Path) -> None:
    other = tmp_path / "more.csv"
    other.write_text(TRACES.replace("a,bot", "c,bot").replace("b,bot,2", "d,bot,many"))
    code, out, err = run("ingest", traces, other, "--json", "--source", "shop")
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    for one in objects:
        counts = {"received", "accepted", "duplicate", "rejected", "traces", "spans", "signals"}
        assert set(one) >= counts | {"format", "batch_id", "seconds"}
        assert one["received"] == one["accepted"] + one["duplicate"] + one["rejected"]
        assert one["source"] == "shop"
    assert [(one["file"], one["accepted"], one["rejected"]) for one in objects] == [
        ("traces.csv", 2, 0),
        ("more.csv", 1, 1),
    ]
    assert "1 records were rejected" in err
    assert "ingest_rejects WHERE batch_id = 2" in err


def test_a_file_that_fails_makes_the_exit_code_1_and_the_others_load(run: Run, traces: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    code, out, err = run("ingest", empty, tmp_path / "missing.csv", traces, "--json")
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [one["file"] for one in objects] == ["empty.csv", "missing.csv", "traces.csv"]
    assert [one.get("error") is None for one in objects] == [False, False, True]
    assert objects[2]["accepted"] == 2
    assert err.count("error: ") == 2
    assert "missing.csv" in err


def test_a_file_without_one_usable_record_has_failed(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("trace_id,agent,input_tokens\na,bot,many\n")
    code, out, _ = run("ingest", bad, "--json")
    assert (code, json.loads(out)["rejected"]) == (1, 1)


def test_a_mapping_file_is_used(run: Run, tmp_path: Path) -> None:
    data, mapping = tmp_path / "votes.csv", tmp_path / "map.toml"
    data.write_text("who,vote\nada,up\nbob,down\n")
    rules = (
        Rule("user_id", "who", Transform.TEXT),
        Rule("value", "vote", Transform.THUMB),
        Rule("kind", None, Transform.SIGNAL_KIND, constant="thumb"),
    )
    mapping.write_text(Mapping("signals", rules, "desk").to_toml())
    code, out, err = run("ingest", data, "--map", mapping, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["signals"] == 2
    code, out, _ = run("sql", "SELECT user_id, value, source FROM signals ORDER BY 1", "--format", "json")
    assert json.loads(out) == [
        {"user_id": "ada", "value": 1.0, "source": "desk"}, {"user_id": "bob", "value": 0.0, "source": "desk"}
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, "kind = ", "kind = 'nonsense'", "\udcff"])
def test_a_bad_mapping_file_is_wrong_usage(run: Run, traces: Path, tmp_path: Path, content: str | None) -> None:
    mapping = tmp_path / "map.toml"
    if content is not None:
        mapping.write_bytes(content.encode("utf-8", "surrogateescape"))
    code, out, err = run("ingest", traces, "--map", mapping)
    assert (code, out) == (2, "")
    assert "map.toml" in err
    assert not (tmp_path / "data").exists()


def test_sql_formats(run: Run, traces: Path) -> None:
    run("ingest", traces)
    columns = "trace_id, sum(input_tokens) AS tokens, [1.5] AS list, 'nan'::DOUBLE AS nan"
    sql = f"SELECT {columns} FROM traces GROUP BY ALL ORDER BY 1"
    code, out, _ = run("sql", sql, "--format", "json")
    assert code == 0
    assert json.loads(out) == [
        {"trace_id": "a", "tokens": 1, "list": [1.5], "nan": None},
        {"trace_id": "b", "tokens": 2, "list": [1.5], "nan": None},
    ]
    _, out, _ = run("sql", sql, "--format", "csv")
    assert out.splitlines() == ["trace_id,tokens,list,nan", "a,1,[1.5],NaN", "b,2,[1.5],NaN"]
    _, out, _ = run("sql", sql)
    assert "trace_id" in out
    assert out.rstrip().endswith("2 rows")


@pytest.mark.parametrize(
    ("sql", "said"),
    [("DROP TABLE traces", "statement of type DROP"), ("FROM trace", "Did you mean traces"), ("SELEC", "Error")],
)
def test_sql_errors_go_to_standard_error(run: Run, traces: Path, sql: str, said: str) -> None:
    run("ingest", traces)
    code, out, err = run("sql", sql)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err


@pytest.mark.parametrize("arguments", [["sql", "SELECT 1"], ["backup", "b.duckdb"]])
def test_reading_does_not_make_a_store(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    code, _, err = run(*arguments, "--db", "none.duckdb")
    assert code == 1
    assert "none.duckdb" in err
    assert list(tmp_path.iterdir()) == []


def test_run_and_jobs(run: Run, traces: Path) -> None:
    run("ingest", traces)
    code, out, _ = run("run", "link-signals", "--json")
    assert (code, json.loads(out)["status"]) == (0, "succeeded")
    code, out, _ = run("run", "link-signals")
    assert (code, out) == (0, "link-signals: No link has changed. (0 rows)\n")
    code, out, _ = run("jobs", "--json")
    listed = {job["job"]: job for job in json.loads(out)}
    assert list(listed) == list(REGISTRY)
    assert (listed["link-signals"]["status"], listed["link-signals"]["cause"]) == ("succeeded", "manual")
    assert listed["drift"]["status"] is None
    code, out, _ = run("jobs")
    assert code == 0
    for name, job in REGISTRY.items():
        assert name in out
        assert job.description in out
    assert "succeeded in" in out


def test_a_failing_job_exits_1_with_its_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.ingest import link_job

    def wrong(_: object) -> None:
        raise ValueError("the moon is wrong")

    monkeypatch.setattr(link_job, "run", wrong)
    code, out, err = run("run", "link-signals", "--json")
    assert (code, json.loads(out)["status"]) == (1, "failed")
    assert "error: job link-signals failed: ValueError: the moon is wrong" in err
    code, out, _ = run("jobs", "--json")
    assert "the moon is wrong" in out


def test_backup_and_restore(run: Run, traces: Path, tmp_path: Path) -> None:
    run("ingest", traces)
    code, out, _ = run("backup", "copy.duckdb")
    assert code == 0
    assert "copy.duckdb" in out
    code, _, err = run("backup", "copy.duckdb")
    assert code == 1
    assert "exists" in err
    code, _, err = run("restore", "copy.duckdb")
    assert code == 1
    assert "--force" in err
    code, out, _ = run("restore", "copy.duckdb", "--force")
    assert code == 0
    assert "before-restore-" in out
    code, out, _ = run("sql", "SELECT count(*) AS n FROM traces", "--format", "csv")
    assert out == "n\n2\n"
    code, _, _ = run("restore", "copy.duckdb", "--db", "fresh.duckdb")
    assert code == 0
    assert (tmp_path / "fresh.duckdb").exists()


def test_simulate_writes_files_and_truth(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("simulate", "--out", "sim", "--users", "20", "--days", "7", "--traces", "100", "--seed", "3")
    assert code == 0
    assert "100 traces" in out
    assert json.loads((tmp_path / "sim" / "truth.json").read_text())
    code, _, err = run("simulate", "--out", "sim", "--users", "-1")
    assert code == 2
    assert "users" in err


def test_the_demo_can_be_repeated_and_continued(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("demo", "--users", "20", "--db", "demo.duckdb")
    assert code == 0
    for name in ("traces.csv", "spans.jsonl.gz", "signals.csv", "clicks.csv", *REGISTRY):
        assert f"{name}: " in out
    tables = ("traces", "spans", "signals", "signal_links", "trace_tasks", "rewards", "job_runs")
    count = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables)
    _, before, _ = run("sql", count, "--format", "csv", "--db", "demo.duckdb")
    code, out, _ = run("demo", "--users", "20", "--db", "demo.duckdb")
    assert (code, out) == (0, "demo.duckdb: the demo is loaded and every job has run.\n")
    _, after, _ = run("sql", count, "--format", "csv", "--db", "demo.duckdb")
    assert after == before
    assert not any(field == "0" for field in before.splitlines()[1].split(","))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["ingest"],
        ["run"],
        ["run", "nonsense"],
        ["sql", "SELECT 1", "--format", "xml"],
        ["sql", "SELECT 1", "--timeout", "0"],
        ["sql", "SELECT 1", "--timeout", "x"],
        ["simulate"],
        ["restore"],
    ],
)
def test_wrong_usage_exits_2_and_says_so_on_standard_error(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "error: " in err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_exits_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_PORT", "http")
    code, _, err = run("jobs")
    assert code == 2
    assert "TRIMTAB_PORT" in err


@pytest.mark.parametrize("command", ["ingest", "run", "jobs", "sql", "simulate", "demo", "backup", "restore"])
def test_every_command_explains_itself_and_takes_a_database(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "--db PATH" in out
    _, everything, _ = run("--help")
    assert command in everything


def test_every_module_of_commands_is_registered() -> None:
    modules = {path.stem for path in (ROOT / "pipelines" / "commands").glob("*.py")} - {"__init__", "access", "remote"}
    assert set(MODULES) == modules


@pytest.mark.process
def test_it_runs_as_a_module_and_a_closed_pipe_is_no_traceback(traces: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    environment |= {"TRIMTAB_DB": str(tmp_path / "t.duckdb"), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-m", "pipelines"]
    subprocess.run([*command, "ingest", str(traces)], cwd=tmp_path, env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, "sql", "SELECT * FROM range(500000)", "--format", "csv"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "range\n"
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) in (0, 1)
    assert "Traceback" not in errors
