"""The side of the model's server that keeps files and works on them for hours: asked carefully, read without trust."""

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeVar

import openai

from pipelines.llm import ModelPort
from pipelines.llm_failures import ModelRejected, ModelUnavailable

__all__ = ["Desk"]

_MOST_LISTED: Final = 2_000
# The server may say something else later: when it is less busy, or has the right key.
_LATER: Final = frozenset((401, 403, 408, 409, 425, 429))
_NOT_OFFERED: Final = frozenset((404, 405, 501))

_Answer = TypeVar("_Answer")


class Desk:
    """Requests about files and what is made of them; `what` names that in messages, `hint` is for servers without."""

    def __init__(self, port: ModelPort, what: str, hint: str) -> None:
        self._port = port
        self._what = what
        self._hint = hint

    def upload(self, name: str, content: str, purpose: Literal["batch", "fine-tune"]) -> str:
        """Send a file; returns its id. Raises: `ModelRejected`, `ModelUnavailable`."""
        held = content.encode()
        return self.named(self.call(lambda: self._port.client.files.create(file=(name, held), purpose=purpose)), "file")

    def find_file(self, name: str, purpose: Literal["batch", "fine-tune"]) -> str | None:
        """The id of an uploaded file of this name. Raises: as `upload`."""
        for file in self.listed(lambda: self._port.client.files.list(purpose=purpose, order="desc")):
            if getattr(file, "filename", None) == name:
                return str(file.id)
        return None

    def remove(self, *file_ids: str | None) -> None:
        """Remove files of which everything is kept here. What the server does not remove stays there."""
        for file_id in filter(None, file_ids):
            try:
                self._port.client.files.delete(file_id)
            except (openai.OpenAIError, ValueError):
                return

    def listed(self, pages: Callable[[], Any]) -> Iterator[Any]:
        """The entries of a list, page after page. Raises: as `upload`."""
        page, count = self.call(pages), 0
        while True:
            entries = getattr(page, "data", None)
            if not isinstance(entries, list):
                raise ModelUnavailable(f"{self._port.server} answered no list.")
            for each in entries:
                count += 1
                yield each
            if count >= _MOST_LISTED or not page.has_next_page():
                return
            page = self.call(page.get_next_page)

    def named(self, made: Any, what: str) -> str:
        """The id of what the server says it has made. Raises: `ModelUnavailable` when it says something else."""
        name = getattr(made, "id", None)
        if not isinstance(name, str) or not name:
            raise ModelUnavailable(f"{self._port.server} answered no {what}.")
        return name

    def call(self, ask: Callable[[], _Answer]) -> _Answer:
        """What the server answers. Raises: `ModelRejected` where it says no, `ModelUnavailable` where that is open."""
        try:
            return ask()
        except openai.APIStatusError as error:
            status = error.status_code
            said = f"{self._port.server} answered {status}: {self._port.clean(error.message)}"
            if status in _LATER or status >= 500:
                raise ModelUnavailable(said) from None
            raise ModelRejected(f"{said}{f' {self._hint}' if status in _NOT_OFFERED else ''}") from None
        except (openai.OpenAIError, ValueError) as error:
            raise ModelUnavailable(
                f"{self._port.server} could not be asked for {self._what} ({self._port.clean(str(error))})."
            ) from None
