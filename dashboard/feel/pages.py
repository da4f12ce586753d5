"""The pages by their names: title, script, icon, and the key that opens each after "g"."""

from dataclasses import dataclass
from typing import Final

__all__ = ["PAGES", "Page", "name_of"]


@dataclass(frozen=True)
class Page:
    """A page as links name it; `letter` is the key after "g"."""

    title: str
    icon: str
    letter: str

    @property
    def path(self) -> str:
        """The script, as `st.page_link` and `st.switch_page` take it."""
        return f"views/{self.title.lower()}.py"


PAGES: Final = {
    page.title.lower(): page
    for page in (
        Page("Overview", ":material/monitoring:", "O"),
        Page("Review", ":material/rate_review:", "V"),
        Page("Lessons", ":material/menu_book:", "L"),
        Page("Traces", ":material/account_tree:", "T"),
        Page("Users", ":material/group:", "U"),
        Page("Rewards", ":material/grade:", "W"),
        Page("Exploration", ":material/explore:", "E"),
        Page("Drift", ":material/trending_down:", "D"),
        Page("Data", ":material/database:", "A"),
        Page("Settings", ":material/settings:", "S"),
    )
}


def name_of(url_path: str) -> str:
    """The name of the page with this address; the Overview is the address without a path."""
    return url_path if url_path in PAGES else "overview"
