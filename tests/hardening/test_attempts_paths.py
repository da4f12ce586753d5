"""Path traversal: names and links in uploads, in the inbox, in sources and backups, and in addresses of the server."""

import io
import os
from datetime import timedelta
from pathlib import Path

import pytest
from hostile_world import PATH
from loop_data import NOW

from pipelines.ingest import inbox
from pipelines.ingest.loads import Loads
from pipelines.ingest.uploads import Uploads
from pipelines.jobs import JobContext
from pipelines.privacy import forget
from store import backup_settings
from store.backup_settings import BackupSettings
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused
from store.settings import Settings

NAMES = [
    PATH, "/etc/passwd", "..", ".", "..\\..\\boot.ini", "a/../../b.csv", "%2e%2e%2fpasswd", "\0/etc/passwd", "~/x.csv",
    "C:\\x.csv", "file:///etc/passwd", "\\\\host\\share\\x.csv", "x" * 5_000, "．．/x", "con.csv", "-rf",
]  # fmt: skip
TABLE = b"trace_id,agent\nt1,shop\n"


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "here" / "trimtab.duckdb", clock=FixedClock(NOW + timedelta(days=3650)), threads=1)
    yield opened
    opened.close()


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_the_name_of_an_upload_never_becomes_a_path(store, tmp_path, name):
    loads = Loads(store)
    try:
        uploads = Uploads(tmp_path / "here" / "uploads", loads)
        before = everything(tmp_path)
        upload = uploads.receive(io.BytesIO(TABLE), name)
        assert everything(tmp_path) - before == {upload.path}
        assert upload.path.resolve().is_relative_to(tmp_path / "here" / "uploads")
        assert not {"/", "\\", "\0"} & set(upload.file)
    finally:
        loads.close()


def test_links_in_the_inbox_are_neither_read_nor_moved(store, tmp_path, make_context):
    folder, secret = tmp_path / "inbox", tmp_path / "secret.csv"
    secret.write_bytes(TABLE)
    (folder / "crm").mkdir(parents=True)
    (folder / "link.csv").symlink_to(secret)
    (folder / "crm" / "up.csv").symlink_to("../../secret.csv")
    (folder / "out").symlink_to(tmp_path, target_is_directory=True)
    os.link(secret, folder / "hard.csv")
    inbox.run(make_context(folder))
    assert secret.read_bytes() == TABLE
    assert (folder / "link.csv").is_symlink()
    assert (folder / "crm" / "up.csv").is_symlink()
    assert everything(tmp_path / "inbox") == {
        folder / "link.csv", folder / "crm" / "up.csv", folder / "done" / "hard.csv",
        folder / "done" / "hard.csv.report.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["%2e%2e%2fx.csv", "~root.csv", "-rf.csv", "$(touch x).csv", "' OR 1=1.csv", "a\nb.csv"]
)
def test_odd_names_in_the_inbox_stay_in_the_inbox(store, tmp_path, make_context, name):
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / name).write_bytes(TABLE)
    outside = everything(tmp_path) - everything(folder)
    inbox.run(make_context(folder))
    now = everything(tmp_path) - everything(folder)
    assert {path for path in now - outside if "here" not in path.parts} == set()
    assert (folder / "done" / name).exists()


@pytest.fixture
def make_context(store):
    def make(folder: Path) -> JobContext:
        return JobContext(
            store,
            store.clock,
            Settings(inbox=folder),
            None,
            lambda fraction, message: None,
            None,  # type: ignore[arg-type]
        )

    return make


@pytest.mark.parametrize("folder", ["/proc/self/x", "/dev/null", "x\0y", "here\0", "."])
def test_backups_go_only_where_a_folder_can_be(store, folder):
    with pytest.raises(ActionRefused):
        backup_settings.put(store, BackupSettings(enabled=True, folder=folder), by="Ada")


def test_the_report_of_forgetting_follows_no_links(store, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("zelda")
    settings = Settings(db=tmp_path / "here" / "trimtab.duckdb", inbox=tmp_path / "inbox")
    settings.inbox.mkdir()
    (settings.inbox / "link.txt").symlink_to(outside)
    assert forget.files_naming(settings, "zelda") == []
