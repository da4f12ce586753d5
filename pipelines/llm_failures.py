"""How questions to the language model fail, and how long to wait before asking again."""

from pipelines.retry_after import retry_after
from store.errors import TrimtabError
from store.llm_calls import Outcome

__all__ = [
    "AttemptFailed", "ModelError", "ModelMalformed", "ModelRefused", "ModelRejected", "ModelTruncated",
    "ModelUnavailable", "retry_after",
]  # fmt: skip


class ModelError(TrimtabError):
    """A question to the model that brought no answer. `outcome` is how it is recorded."""

    outcome: Outcome = "unavailable"


class ModelRefused(ModelError):
    """The model, or its content filter, would not answer."""

    outcome: Outcome = "refused"


class ModelMalformed(ModelError):
    """The answer is not what the schema asked for."""

    outcome: Outcome = "malformed"


class ModelTruncated(ModelError):
    """The answer did not fit into the output tokens allowed."""

    outcome: Outcome = "truncated"


class ModelRejected(ModelError):
    """The server would not take the question: a wrong key, model or request. Asking again does not help."""

    outcome: Outcome = "rejected"


class ModelUnavailable(ModelError):
    """The server could not be reached or did not answer; later it may."""


class AttemptFailed(Exception):
    """One attempt without an answer.

    `charged` says that it may be billed all the same, `again` that asking again may help, `after` how many seconds the
    server asks to wait before that.
    """

    def __init__(self, error: ModelError, *, charged: bool, again: bool, after: float | None = None) -> None:
        self.error, self.charged, self.again, self.after = error, charged, again, after
        super().__init__(str(error))
