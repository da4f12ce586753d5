"""The tabs of the Settings page, for links to them."""

from typing import Final, Literal

__all__ = ["TAB", "TABS", "Tab"]

Tab = Literal["Operators", "Keys", "Notices", "Segments", "Privacy", "Audit", "Backup"]
TAB: Final = "settings"
TABS: Final[tuple[Tab, ...]] = ("Operators", "Keys", "Notices", "Segments", "Privacy", "Audit", "Backup")
