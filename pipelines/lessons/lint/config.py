"""What lint finds too long or too alike."""

from dataclasses import dataclass

from pipelines.lessons.likeness import DUPLICATE, NEAR
from pipelines.lessons.similarity import EMBEDDINGS
from store.errors import SettingsError

__all__ = ["LintConfig"]


@dataclass(frozen=True)
class LintConfig:
    """Lengths in estimated tokens, and cosines from which two lessons are near each other and the same.

    `near` and `duplicate` are cosines of TF-IDF: of 359 lessons of a real playbook they find 44 and 27 too many
    (LESSONS, ace_playbooks). `near_embedded` and `duplicate_embedded` are cosines of embeddings, which are larger:
    lessons on the same tool have .7 and more (measured: `pipelines.lessons.likeness`).

    `same_when` is the cosine from which two conditions are the same when what follows is compared; `rare` how many
    words of other traces must be known before a name that is not among them is called rare.
    """

    title_tokens: int = 25
    when_tokens: int = 120
    do_tokens: int = 250
    near: float = 0.6
    duplicate: float = 0.9
    near_embedded: float = NEAR
    duplicate_embedded: float = DUPLICATE
    same_when: float = 0.5
    rare: int = 100

    def __post_init__(self) -> None:
        if min(self.title_tokens, self.when_tokens, self.do_tokens) < 1:
            raise SettingsError(
                "lint tokens", (self.title_tokens, self.when_tokens, self.do_tokens), "whole numbers from 1"
            )
        for near, same in ((self.near, self.duplicate), (self.near_embedded, self.duplicate_embedded)):
            if not 0.0 < near <= same <= 1.0:
                raise SettingsError("lint near, duplicate", (near, same), "0 < near <= duplicate <= 1")

    def thresholds(self, method: str) -> tuple[float, float]:
        """The cosines, measured by a method, from which two lessons are near each other and the same."""
        return (self.near_embedded, self.duplicate_embedded) if method == EMBEDDINGS else (self.near, self.duplicate)
