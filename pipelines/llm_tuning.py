"""Fine-tuning at the model's server: files are uploaded, a job is made of them, a later run asks how it is.

As with batches (`pipelines.llm_batches`) the store says before each request that it is about to be made, and a job
bears a random key there, in the names of its files and in its metadata. A process that finds a step begun and not ended
looks on the server for that key instead of asking again, so that nothing is trained and paid for twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from pipelines.llm import ModelPort
from pipelines.llm_desk import Desk
from pipelines.llm_failures import ModelRejected, ModelUnavailable
from store import fine_tunings
from store.connection import Store
from store.fine_tunings import State

__all__ = ["Content", "Followed", "Tunings"]

_KEY: Final = "trimtab_tuning"
_SUFFIX: Final = "trimtab"
_UNSETTLED: Final = timedelta(minutes=10)
"""So long after a request of which nothing was heard, the server may still be about to show what it made of it."""
_GIVEN_UP: Final = timedelta(days=7)
_SPLITS: Final = ("train", "validation")

Content = Callable[[Mapping[str, Any], str], str | None]
"""The text of a job's file, "train" or "validation"; None where there is none."""


@dataclass(frozen=True)
class Followed:
    """How a job is: `state` of `store.fine_tunings`, and what is to be said about it."""

    tuning_id: int
    state: State
    message: str | None


class Tunings:
    """The fine-tuning jobs that were approved, through an open port.

    Args: `content` of their files; `stopped` says why one may not be sent any more, asked before anything leaves.
    """

    def __init__(
        self, store: Store, port: ModelPort, content: Content, stopped: Callable[[Mapping[str, Any]], str | None]
    ) -> None:
        self._store = store
        self._port = port
        self._content = content
        self._stopped = stopped
        self._desk = Desk(port, "fine-tuning", "It may not offer fine-tuning.")

    def follow(self) -> list[Followed]:
        """Take every open job as far as it goes now."""
        return [self._take(row) for row in fine_tunings.on_their_way(self._store).to_dicts()]

    def _take(self, row: dict[str, Any]) -> Followed:
        """Take one job further until it runs, waits for the server, or ends."""
        number, began = int(row["tuning_id"]), row["state"]
        if row["address"] != self._port.setup.base_url:
            said = f"It was approved for {row['address']}, and the model is now asked at {self._port.setup.base_url}."
            return self._waits(row, said)
        try:
            while row["state"] != "running":
                # What was sent may be working already: then it is followed, whatever has changed since.
                why = self._stopped(row) if row["state"] != "creating" else None
                if why is not None:
                    self._desk.remove(row["training_file_id"], row["validation_file_id"])
                    return self._end(row, "failed", why, usd=0.0)
                if not self._send(row):
                    return self._waits(row, "Whether the server made a job of it is not known yet.")
                row = fine_tunings.one(self._store, number)
            return self._look(row)
        except ModelRejected as error:
            # A request that was made before and cannot be found may be worked on all the same.
            uncertain = began in ("creating", "running")
            return self._end(row, "failed", str(error), usd=row["usd"] if uncertain else 0.0, estimated=uncertain)
        except ModelUnavailable as error:
            return self._waits(fine_tunings.one(self._store, number), str(error))

    def _send(self, row: dict[str, Any]) -> bool:
        """The next step towards the server. False when it must wait. Raises: `ModelRejected`, `ModelUnavailable`."""
        number = int(row["tuning_id"])
        if row["state"] in ("approved", "uploading"):
            again = row["state"] == "uploading"
            if not again:
                fine_tunings.step(self._store, number, "uploading")
            for split in _SPLITS:
                self._upload(row, split, again)
            fine_tunings.step(self._store, number, "uploaded")
            return True
        server_id = None
        if row["state"] == "creating":
            server_id = self._find(row)
            if server_id is None and self._store.clock.now() - row["stepped_at"] < _UNSETTLED:
                return False
        if server_id is None:
            # Said anew, so that the time in which the server may still show it counts from this request.
            fine_tunings.step(self._store, number, "uploaded")
            fine_tunings.step(self._store, number, "creating")
            server_id = self._create(row)
        fine_tunings.step(self._store, number, "running", server_id=server_id)
        return True

    def _upload(self, row: Mapping[str, Any], split: str, again: bool) -> None:
        """Send one file, unless it is there."""
        held = f"{'training' if split == 'train' else 'validation'}_file_id"
        text = self._content(row, split)
        if row[held] is not None or text is None:
            return
        name = f"trimtab-{row['tuning_key']}-{split}.jsonl"
        file_id = self._desk.find_file(name, "fine-tune") if again else None
        file_id = file_id or self._desk.upload(name, text, "fine-tune")
        training, validation = (file_id, None) if split == "train" else (None, file_id)
        fine_tunings.step(
            self._store, int(row["tuning_id"]), "uploading", training_file_id=training, validation_file_id=validation
        )

    def _create(self, row: Mapping[str, Any]) -> str:
        method: dict[str, Any] = {
            "type": row["method"], row["method"]: {"hyperparameters": {"n_epochs": int(row["epochs"])}}
        }  # fmt: skip
        more: dict[str, Any] = {"validation_file": row["validation_file_id"]} if row["validation_file_id"] else {}
        made = self._desk.call(
            lambda: self._port.client.fine_tuning.jobs.create(
                model=row["model"], training_file=row["training_file_id"], method=cast(Any, method), seed=1,
                suffix=_SUFFIX, metadata={_KEY: row["tuning_key"]}, **more,
            )
        )  # fmt: skip
        return self._desk.named(made, "fine-tuning job")

    def _find(self, row: Mapping[str, Any]) -> str | None:
        """The id of the job that the server made of this one's file."""
        for job in self._desk.listed(lambda: self._port.client.fine_tuning.jobs.list(limit=100)):
            marked = (getattr(job, "metadata", None) or {}).get(_KEY) == row["tuning_key"]
            if marked or getattr(job, "training_file", None) == row["training_file_id"]:
                return str(job.id)
        return None

    def _look(self, row: dict[str, Any]) -> Followed:
        """Ask how a job is, and close it when it has ended. Raises: `ModelRejected`, `ModelUnavailable`."""
        job = self._desk.call(lambda: self._port.client.fine_tuning.jobs.retrieve(row["server_id"]))
        if self._desk.named(job, "fine-tuning job") != row["server_id"]:
            raise ModelUnavailable(f"{self._port.server} answered another fine-tuning job.")
        said = str(job.status)
        trained = job.trained_tokens if isinstance(job.trained_tokens, int) else None
        usd = row["usd"] if trained is None else trained * row["usd_per_million"] / 1e6
        if said == "succeeded":
            name = job.fine_tuned_model
            if not isinstance(name, str) or not name:
                raise ModelUnavailable(f"{self._port.server} names no model for the job that succeeded.")
            self._desk.remove(row["training_file_id"], row["validation_file_id"])
            text = f"The model {self._port.clean(name)} is trained."
            return self._end(
                row, "succeeded", text, usd=usd, estimated=trained is None, tuned_model=name, trained_tokens=trained
            )
        if said in ("failed", "cancelled"):
            fault = getattr(job, "error", None)
            detail = str(getattr(fault, "message", None) or getattr(fault, "code", None) or "it gave no reason")
            self._desk.remove(row["training_file_id"], row["validation_file_id"])
            text = f"The server says {said}: {self._port.clean(detail)}"
            # A job that trained nothing is not paid for; one that did may be.
            cost = 0.0 if not trained else usd
            return self._end(row, "failed" if said == "failed" else "cancelled", text, usd=cost, trained_tokens=trained)
        fine_tunings.step(self._store, row["tuning_id"], "running", server_state=self._port.clean(said), looked=True)
        return Followed(row["tuning_id"], "running", None)

    def _end(
        self,
        row: Mapping[str, Any],
        state: Any,
        message: str,
        *,
        usd: float,
        estimated: bool = False,
        tuned_model: str | None = None,
        trained_tokens: int | None = None,
    ) -> Followed:
        fine_tunings.end(
            self._store, row["tuning_id"], state, message, usd=usd, estimated=estimated, tuned_model=tuned_model,
            trained_tokens=trained_tokens,
        )  # fmt: skip
        return Followed(row["tuning_id"], state, message)

    def _waits(self, row: Mapping[str, Any], message: str) -> Followed:
        """Leave a job as it is, and say why; one of which nothing was heard for days is given up before it runs."""
        state: State = row["state"]
        if state != "running" and self._store.clock.now() - row["decided_at"] > _GIVEN_UP:
            unknown = state == "creating"
            said = f"Given up after seven days. {message}"
            return self._end(row, "failed", said, usd=row["usd"] if unknown else 0.0, estimated=unknown)
        fine_tunings.step(self._store, row["tuning_id"], state, message=message)
        return Followed(row["tuning_id"], state, message)
