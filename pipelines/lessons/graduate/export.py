"""Exports: the traces of an agent as files to train on, kept in the store as a whole and written out on request."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from pipelines.lessons.graduate.config import LEAST, ExportConfig, LastingConfig
from pipelines.lessons.graduate.examples import Built, Example, build
from pipelines.lessons.graduate.lasting import Standing, chosen
from pipelines.lessons.graduate.unlesson import Removal
from store import graduation, meta, payoffs
from store.connection import Store
from store.errors import ActionRefused
from store.version import code_version

__all__ = ["BYTES_PER_TOKEN", "METHODS", "file_name", "make", "trainable", "write"]

METHODS: Final = ("supervised", "dpo")
BYTES_PER_TOKEN: Final = 3.5
"""Of ordinary text in common tokenisers, on the low side."""
_CHUNK: Final = 100


def make(
    store: Store,
    agent: str,
    lesson_ids: Sequence[str],
    *,
    by: str,
    lasting: LastingConfig | None = None,
    config: ExportConfig | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> int:
    """Make an export of lessons of an agent (of all that may graduate when none is named); returns its number.

    It is kept even when there are too few examples to train on: its manifest says what is missing. Raises:
    `ActionRefused` when a lesson may not graduate, and for no person.
    """
    config = config or ExportConfig()
    picked = chosen(store, agent, lesson_ids, lasting)
    ids = [one.lesson_id for one in picked]
    texts = graduation.texts_of(store, ids)
    version, model = meta.data_version(store), payoffs.reward_model(store)
    unwilling = graduation.unwilling(store, agent)
    agreed = graduation.agreed(store) if config.stated else None
    good, bad = graduation.candidates(store, agent, ids), graduation.contrary(store, agent, ids)
    built = build(
        good, bad, _Steps(store, [*good["trace_id"], *bad["trace_id"]]), Removal(ids, texts["do_text"].to_list()),
        refused=lambda user: user in unwilling or (agreed is not None and user not in agreed), config=config,
        progress=progress,
    )  # fmt: skip
    written = [
        _file(method, split, [one for one in listed if one.split == split])
        for method, listed in (("supervised", built.supervised), ("dpo", built.dpo))
        for split in ("train", "validation")
    ]
    written = [each for each in written if each["lines"]]
    return graduation.publish(
        store, agent, [{"lesson_id": one.lesson_id, "version": one.version, "title": one.title} for one in picked],
        manifest=_manifest(agent, picked, built, written, config, {"supervised": good.height, "dpo": bad.height}),
        written=written, origins=pl.DataFrame(built.origins, schema=graduation.SOURCES), data_version=version,
        reward_model_id=model, code_version=code_version(), by=by,
    )  # fmt: skip


def trainable(manifest: Mapping[str, Any], method: str) -> str | None:
    """What an export lacks to be trained on; None when nothing."""
    lines = sum(each["lines"] for each in manifest["files"] if each["method"] == method and each["split"] == "train")
    if lines >= LEAST:
        return None
    return f"{lines} of the {LEAST} training examples that the API takes at least; {LEAST - lines} are missing"


def write(store: Store, export_id: int, folder: Path) -> list[Path]:
    """Write the files of an export and its manifest.json into a new folder, all or nothing; returns their paths.

    Raises: `NotFound`; `ActionRefused` when the folder is there already; `OSError`.
    """
    export = graduation.export(store, export_id)
    if folder.exists():
        raise ActionRefused(f"Writing {folder}", "it is there already.", "Name a folder that does not exist yet.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, so that it can take its name in one step.
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        names = []
        for name in graduation.files(store, export_id)["name"]:
            _put(staged / name, graduation.content(store, export_id, name))
            names.append(name)
        _put(staged / "manifest.json", json.dumps(json.loads(export["manifest"]), indent=2, ensure_ascii=False) + "\n")
        staged.chmod(0o700)
        staged.rename(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return [folder / name for name in [*names, "manifest.json"]]


def file_name(method: str, split: str) -> str:
    """The name of a file of an export."""
    return f"{method}.{split}.jsonl"


class _Steps:
    """The steps of traces, read in chunks in the order in which they are asked for."""

    def __init__(self, store: Store, trace_ids: Sequence[str]) -> None:
        self._store = store
        ordered = list(dict.fromkeys(trace_ids))
        self._place = {trace_id: place // _CHUNK for place, trace_id in enumerate(ordered)}
        self._chunks = [ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK)]
        self._held: tuple[int, dict[str, list[dict[str, Any]]]] = (-1, {})

    def __call__(self, trace_id: str) -> Sequence[Mapping[str, Any]]:
        place = self._place[trace_id]
        if self._held[0] != place:
            found: dict[str, list[dict[str, Any]]] = {}
            for row in graduation.steps(self._store, self._chunks[place]).iter_rows(named=True):
                found.setdefault(row["trace_id"], []).append(row)
            self._held = (place, found)
        return self._held[1].get(trace_id, [])


def _file(method: str, split: str, examples: Sequence[Example]) -> dict[str, Any]:
    content = "".join(f"{one.line}\n" for one in examples)
    encoded = content.encode()
    return {
        "name": file_name(method, split), "method": method, "split": split, "lines": len(examples),
        "tokens": round(len(encoded) / BYTES_PER_TOKEN), "sha256": hashlib.sha256(encoded).hexdigest(),
        "content": content,
    }  # fmt: skip


def _manifest(
    agent: str,
    picked: Sequence[Standing],
    built: Built,
    written: Sequence[Mapping[str, Any]],
    config: ExportConfig,
    candidates: Mapping[str, int],
) -> dict[str, Any]:
    listed = [{name: each[name] for name in each if name != "content"} for each in written]
    return {
        "agent": agent,
        "lessons": [asdict(one) for one in picked],
        "settings": asdict(config),
        "methods": {
            method: {
                "candidates": candidates[method],
                "examples": len(examples),
                "left_out": built.left_out(method),
                "missing": trainable({"files": listed}, method),
            }
            for method, examples in (("supervised", built.supervised), ("dpo", built.dpo))
        },
        "redacted": dict(sorted(built.redacted.items())),
        "files": listed,
        "traces": [
            {"method": method, "trace_id": one.trace_id, "other_id": one.other_id, "split": one.split}
            for method, examples in (("supervised", built.supervised), ("dpo", built.dpo))
            for one in examples
        ],
    }


def _put(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
