"""The code version is told from pyproject.toml and from the files of git."""

from pathlib import Path

import pytest

from store.version import code_version

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.3"\n')
    return tmp_path


def test_without_git_it_is_the_version(root: Path) -> None:
    assert code_version(root) == "1.2.3"


def test_a_detached_head(root: Path) -> None:
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text(COMMIT + "\n")
    assert code_version(root) == "1.2.3+0123456789ab"


@pytest.mark.parametrize("packed", [False, True])
def test_a_branch(root: Path, packed: bool) -> None:
    git = root / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    if packed:
        (git / "packed-refs").write_text(
            f"# pack-refs with: peeled\n{'f' * 40} refs/heads/other\n{COMMIT} refs/heads/main\n"
        )
    else:
        (git / "refs/heads/main").write_text(COMMIT + "\n")
    assert code_version(root) == "1.2.3+0123456789ab"


def test_a_branch_without_commits_and_a_broken_head_leave_the_version(root: Path) -> None:
    git = root / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert code_version(root) == "1.2.3"
    code_version.cache_clear()
    (git / "HEAD").write_bytes(b"\xff")
    assert code_version(root) == "1.2.3"
