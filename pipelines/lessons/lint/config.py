"""What lint finds too long or too alike."""

from dataclasses import dataclass

from store.errors import SettingsError

__all__ = ["LintConfig"]


@dataclass(frozen=True)
class LintConfig:
    """Lengths in estimated tokens, and cosines from which two lessons are near each other and the same.

    `same_when` is the cosine from which two conditions are the same when what follows is compared; `rare` how many
    words of other traces must be known before a name that is not among them is called rare.
    """

    title_tokens: int = 25
    when_tokens: int = 120
    do_tokens: int = 250
    near: float = 0.6
    duplicate: float = 0.9
    same_when: float = 0.5
    rare: int = 100

    def __post_init__(self) -> None:
        if min(self.title_tokens, self.when_tokens, self.do_tokens) < 1:
            raise SettingsError(
                "lint tokens", (self.title_tokens, self.when_tokens, self.do_tokens), "whole numbers from 1"
            )
        if not 0.0 < self.near <= self.duplicate <= 1.0:
            raise SettingsError("lint near, duplicate", (self.near, self.duplicate), "0 < near <= duplicate <= 1")
