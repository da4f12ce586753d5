"""What is measured of a model's answers: names, meanings, and the least change that matters to anybody."""

import math
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FINGERPRINT", "MEASURES", "PROBES_TOGETHER", "PROBE_LOGPROBS", "PROBE_TEXTS", "TOGETHER", "Measure"]

Scale = Literal["as it is", "log"]

FINGERPRINT: Final = "fingerprint"
TOGETHER: Final = "all figures together"
PROBE_TEXTS: Final = "probe answers"
PROBE_LOGPROBS: Final = "probe log-probabilities"
PROBES_TOGETHER: Final = "probes together"


@dataclass(frozen=True)
class Measure:
    """One figure of answers: `column` of the sampled answers; `practical` the least change that matters.

    On the scale log, values are compared by their logarithms and `practical` is of the ratio, such as ln 1.1.
    """

    name: str
    column: str
    title: str
    meaning: str
    unit: str
    scale: Scale
    practical: float


_ALL: Final = (
    Measure("tokens per character", "tokens_per_character", "Tokens per character",
            "Output tokens for each character of text: another tokeniser, or hidden reasoning.", "tokens", "log",
            math.log(1.05)),
    Measure("refusal share", "refusal", "Refusals", "Share of answers that begin with a refusal.", "share",
            "as it is", 0.02),
    Measure("latency", "seconds", "Latency", "Seconds from question to answer.", "seconds", "log", math.log(1.25)),
    Measure("answer length", "length", "Length of answers", "Characters of text.", "characters", "log",
            math.log(1.15)),
    Measure("sentence length", "sentence_length", "Length of sentences", "Words in a sentence.", "words", "log",
            math.log(1.1)),
    Measure("list share", "list_share", "Lists", "Share of lines that are items of a list.", "share", "as it is",
            0.05),
    Measure("punctuation", "punctuation", "Punctuation", "Marks for 100 characters of text.", "marks", "as it is",
            0.3),
    Measure("usual openings", "usual_opening", "Usual openings",
            "Share of answers that begin with two words this model's answers commonly began with at first.", "share",
            "as it is", 0.05),
    Measure("surprise", "surprise", "Surprise", "Mean standardised surprise of the trace's steps.",
            "standard deviations", "as it is", 0.2),
)  # fmt: skip

MEASURES: Final[dict[str, Measure]] = {measure.name: measure for measure in _ALL}
