"""Group traces into tasks by the likeness of their inputs, for agents that do not state a task.

Each group is known by one representative input, which never changes. A new trace joins the nearest representative of
its agent at a cosine of at least `threshold`; else it opens a group of its own. Traces that have a task are not looked
at again, so a trace never changes its task, and the same representatives give the same assignment on every machine: the
features are hashed word and character n-grams with fixed weights. Inverse document frequencies are left out on purpose,
for they would change with every batch; common English words are dropped instead.

Order. Within one call the rows' order does not matter: distinct inputs are visited by how often they occur, then by
text, to open groups, and only then is every trace given its nearest representative. Across calls it does: whoever comes
first opens the group, and a later, nearer representative takes only traces that come after it.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, HashingVectorizer
from sklearn.preprocessing import normalize

from pipelines.stats.contract import require
from store.errors import SettingsError
from store.tasks import GROUPS

__all__ = ["ASSIGNMENTS", "GROUPS", "TRACES", "UNGROUPED", "UNKNOWN_AGENT", "GroupResult", "TaskConfig", "group"]

TRACES = pl.Schema({"trace_id": pl.String(), "agent": pl.String(), "input": pl.String()})
ASSIGNMENTS = pl.Schema(
    {"trace_id": pl.String(), "agent": pl.String(), "task": pl.String(), "similarity": pl.Float64()}
)
UNGROUPED = pl.Schema({"trace_id": pl.String(), "reason": pl.String()})
UNKNOWN_AGENT = "unknown"  # the agent of groups whose traces name none

_POLITE = [
    "hi",
    "hello",
    "hey",
    "please",
    "thanks",
    "thank",
    "like",
    "want",
    "need",
    "help",
    "just",
    "ve",
    "ll",
    "re",
    "don",
]
_STOP_WORDS = frozenset([*ENGLISH_STOP_WORDS, *_POLITE])
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_URL = re.compile(r"\bhttps?://\S+")
_IDENTIFIER = re.compile(r"\b(?=\w*\d)(?=\w*[^\W\d])\w+(?:-\w+)*\b|#\w+")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_WORD = re.compile(r"[^\W\d_]{2,}")
_TOKEN = re.compile(r"@?\w+")


@dataclass(frozen=True)
class TaskConfig:
    """Cosine from which two inputs are one task, how much of an input counts, and the sizes that bound memory.

    The default threshold was chosen on paraphrases of 18 support intents (adjusted Rand index .76, purity .99) and the
    first messages of tau-bench airline (.33, .74; .45, .88 at .6): a lower one mixes tasks, a higher one splits them.
    """

    threshold: float = 0.4
    characters: int = 500
    features: int = 2**18
    block: int = 512
    batch: int = 20_000

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise SettingsError("tasks threshold", self.threshold, "a cosine above 0 and at most 1")
        if min(self.characters, self.features, self.block, self.batch) < 1:
            sizes = (self.characters, self.features, self.block, self.batch)
            raise SettingsError("tasks characters, features, block, batch", sizes, "positive numbers")


@dataclass(frozen=True)
class GroupResult:
    """Tasks of the new traces (ASSIGNMENTS), groups opened for them (GROUPS), and traces without words (UNGROUPED)."""

    assignments: pl.DataFrame
    new_groups: pl.DataFrame
    ungrouped: pl.DataFrame


def group(traces: pl.DataFrame, existing: pl.DataFrame, config: TaskConfig | None = None) -> GroupResult:
    """Give every trace of `traces` (columns TRACES; those that have no task yet) a task of its agent.

    `existing` holds all groups so far (columns GROUPS). Every trace is either assigned or ungrouped, once. Names read
    `<agent>/<first words>-<4 hex>`, a function of agent and representative; on a clash the hex grows by 4 digits.
    Time is linear in distinct inputs times groups; memory is the features of `batch` inputs, which are grouped before
    the next batch, and `block` rows of similarities to all groups of one agent.
    Raises ContractError for wrong frames.
    """
    config = config or TaskConfig()
    traces = require(traces, TRACES, "traces to group", not_null=["trace_id"], unique="trace_id")
    existing = require(existing, GROUPS, "task groups", not_null=GROUPS.names(), unique="task")
    normalised = pl.Series("text", [normalise(text, config.characters) for text in traces["input"]], pl.String)
    traces = traces.select("trace_id", "agent", normalised)
    empty = pl.col("text") == ""
    ungrouped = traces.filter(empty).select("trace_id", reason=pl.lit("the input has no words"))
    taken = set(existing["task"])
    assigned, opened = [], []
    worded = traces.filter(~empty).with_columns(owner=pl.col("agent").fill_null(UNKNOWN_AGENT))
    for rows in worded.sort("owner").partition_by("owner", maintain_order=True):
        owner = str(rows["owner"][0])
        known = existing.filter(pl.col("agent") == owner).sort("task")
        texts = rows.group_by("text").len().sort(["len", "text"], descending=[True, False])["text"].to_list()
        groups = _Groups(owner, known, taken, config)
        batches = [texts[start : start + config.batch] for start in range(0, len(texts), config.batch)]
        found = pl.concat([groups.assign(batch) for batch in batches])
        assigned.append(rows.join(found, on="text", how="left", maintain_order="left").select(list(ASSIGNMENTS)))
        opened.append(pl.DataFrame(groups.opened, schema=GROUPS, orient="row"))
    return GroupResult(
        assignments=pl.concat(assigned).sort("trace_id") if assigned else pl.DataFrame(schema=ASSIGNMENTS),
        new_groups=pl.concat(opened).sort("task") if opened else pl.DataFrame(schema=GROUPS),
        ungrouped=ungrouped.sort("trace_id").cast(UNGROUPED),
    )


def normalise(text: str | None, characters: int) -> str:
    """Lower case, one kind of space, and addresses, links, identifiers and numbers each as one placeholder."""
    if text is None or not text.strip():
        return ""
    folded = unicodedata.normalize("NFKC", text[: 4 * characters]).casefold()
    for pattern, placeholder in ((_EMAIL, "@mail"), (_URL, "@link"), (_IDENTIFIER, "@id"), (_NUMBER, "0")):
        folded = pattern.sub(placeholder, folded)
    return " ".join(folded.split())[:characters]


class _Groups:
    """The groups of one agent: their names and feature rows, growing as inputs open new ones."""

    def __init__(self, agent: str, known: pl.DataFrame, taken: set[str], config: TaskConfig) -> None:
        self.agent, self.taken, self.config = agent, taken, config
        self.names: list[str] = known["task"].to_list()
        self.opened: list[tuple[str, str, str]] = []
        shared = {"n_features": config.features, "alternate_sign": False, "norm": None, "lowercase": False}
        self.words = HashingVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", **shared)
        self.characters = HashingVectorizer(analyzer="char_wb", ngram_range=(4, 4), **shared)
        self.rows = self.features(known["representative"].to_list()) if known.height else None

    def features(self, texts: list[str]) -> sparse.csr_matrix:
        """Unit rows, half of the squared length from words and half from characters, counts dampened by 1 + ln."""
        contents = [_content(text) for text in texts]
        halves = []
        for vectorizer in (self.words, self.characters):
            counts = vectorizer.transform(contents).astype(np.float32)
            counts.data = 1.0 + np.log(counts.data)
            halves.append(normalize(counts, copy=False))
        return sparse.csr_matrix(normalize(sparse.hstack(halves, format="csr"), copy=False))

    def assign(self, texts: list[str]) -> pl.DataFrame:
        """Open the groups that `texts` need, then give each its nearest: columns text, task, similarity."""
        features = self.features(texts)
        starts = range(0, len(texts), self.config.block)
        for start in starts:
            self._open(texts[start : start + self.config.block], features[start : start + self.config.block])
        nearest = [self._nearest(features[start : start + self.config.block]) for start in starts]
        index = np.concatenate([rows for rows, _ in nearest])
        cosine = np.concatenate([similarity for _, similarity in nearest])
        similarity = np.minimum(cosine.astype(np.float64), 1.0)
        return pl.DataFrame({"text": texts, "task": [self.names[i] for i in index], "similarity": similarity})

    def _open(self, texts: list[str], features: sparse.csr_matrix) -> None:
        far = np.ones(len(texts), dtype=bool)
        if self.rows is not None:
            far = self._nearest(features)[1] < self.config.threshold
        candidates = np.flatnonzero(far)
        if candidates.size == 0:
            return
        among = (features[candidates] @ features[candidates].T).toarray()
        leaders: list[int] = []
        for place in range(candidates.size):
            if not leaders or among[place, leaders].max() < self.config.threshold:
                leaders.append(place)
        for place in leaders:
            text = texts[candidates[place]]
            name = _name(self.agent, text, self.taken)
            self.taken.add(name)
            self.names.append(name)
            self.opened.append((name, self.agent, text))
        added = features[candidates[leaders]]
        self.rows = added if self.rows is None else sparse.vstack([self.rows, added], format="csr")

    def _nearest(self, features: sparse.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest group of each row and its cosine; of equally near ones the group opened first."""
        similarity = (features @ self.rows.T).toarray() if self.rows is not None else np.zeros((features.shape[0], 0))
        index = similarity.argmax(axis=1)
        return index, similarity[np.arange(index.size), index]


def _content(text: str) -> str:
    """The words that tell inputs apart; the whole text where there are none, or where it is not made of words."""
    words = [word for word in _TOKEN.findall(text) if word[0] != "@" and len(word) > 1 and word not in _STOP_WORDS]
    return " ".join(words) or text


def _name(agent: str, representative: str, taken: set[str]) -> str:
    counts = Counter(word for word in _WORD.findall(representative) if word not in _STOP_WORDS)
    frequent = sorted(counts, key=lambda word: (-counts[word], representative.index(word)))[:3]
    words = "-".join(sorted(frequent, key=representative.index)) or "request"
    digest = hashlib.sha256(f"{agent}\n{representative}".encode()).hexdigest()
    digits = 4
    while (name := f"{agent}/{words}-{digest[:digits]}") in taken:
        digits += 4
    return name
