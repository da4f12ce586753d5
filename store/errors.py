"""Every error a user may read, as one tree. The text says what was expected, what came, where, and what to do.

TrimtabError
├── SettingsError            a setting is missing, unknown or out of range
├── StoreError
│   ├── StoreLocked          another process holds the file
│   ├── MigrationError       the file was made by a changed or newer migration
│   ├── SchemaMismatch       a query did not return the columns it declares (a defect of ours)
│   ├── QueryTimeout         a page query ran longer than it may
│   ├── DiskFull             the disk holding the store is full
│   ├── MemoryExhausted      the engine may not use more memory
│   ├── StoreClosed          work arrived after the store was closed
│   └── NotFound             there is no row with this id
├── IngestError              (and pipelines.ingest.mapping.MappingError: a column mapping cannot be used)
│   ├── FileRejected         the file as a whole cannot be loaded; nothing of it was applied
│   ├── RecordRejected       one record cannot be loaded; the others go on
│   ├── IngestCancelled      an operator stopped it; nothing of it was applied
│   └── IngestInterrupted    the process is ending; the same file continues where it stopped
├── JobError                 (and pipelines.stats.contract.ContractError: a job was given other columns,
│   │                         FitRefused: a fit that the data cannot carry; pipelines.llm's errors of the model)
│   ├── UnknownJob
│   └── JobAlreadyRunning
├── Forbidden                an operator asked for something that their role does not allow
└── ActionRefused            an operator asked for something that the state does not allow
                             (and gateway.access.AccessRefused: a key that may not do what was asked)
"""

from pathlib import Path


class TrimtabError(Exception):
    """Base of every error whose text is meant for the user."""

    def __reduce__(self) -> str | tuple[object, ...]:
        """Errors come from other processes as what they are; the text is an argument of few of their kinds."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[TrimtabError], args: tuple[object, ...], attributes: dict[str, object]) -> TrimtabError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class SettingsError(TrimtabError):
    """A setting that cannot be used.

    Args: `name` of the setting, the `value` that came, what was `expected`.
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"Setting {name} is {value!r}; expected {expected}.")


class StoreError(TrimtabError):
    """The store could not do what was asked."""


class StoreLocked(StoreError):
    """Another process holds the database file; DuckDB lets one process at a time open it."""

    def __init__(self, path: Path, pid: int | None, command: str | None) -> None:
        self.path, self.pid, self.command = path, pid, command
        holder = f"process {pid}" if pid is not None else "another process"
        if command:
            holder += f" ({command})"
        super().__init__(f"{path} is open in {holder}. Stop it, or use the dashboard that it serves.")


class MigrationError(StoreError):
    """The file's recorded migrations are not the ones this version of Trimtab has."""

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        self.name, self.problem, self.remedy = name, problem, remedy
        super().__init__(f"Migration {name} {problem}. {remedy}")


class SchemaMismatch(StoreError):
    """A query returned other columns than it declares."""

    def __init__(self, expected: str, received: str) -> None:
        self.expected, self.received = expected, received
        super().__init__(f"A query declares the columns {expected} and returned {received}.")


class QueryTimeout(StoreError):
    """A query was stopped because it ran longer than allowed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"The query was stopped after {seconds:g} s. Narrow the time range or the filters and try again."
        )


class DiskFull(StoreError):
    """The disk is full; nothing of the interrupted transaction was applied."""

    def __init__(self, path: Path, detail: str) -> None:
        self.path, self.detail = path, detail
        super().__init__(
            f"The disk holding {path} is full; the change was not applied and nothing stored was touched. "
            f"Free some space and try again. ({detail})"
        )


class MemoryExhausted(StoreError):
    """The engine needed more memory than it may use; nothing of the interrupted transaction was applied."""

    def __init__(self, limit: str, detail: str) -> None:
        self.limit, self.detail = limit, detail
        super().__init__(
            f"The database engine may use {limit} of memory and needed more beside what else goes on; nothing was "
            f"changed. Try again when jobs have ended, or set TRIMTAB_MEMORY_LIMIT higher. ({detail})"
        )


class StoreClosed(StoreError):
    """Work was handed to a store that is closed or closing."""

    def __init__(self) -> None:
        super().__init__("The store is closed; the change was not applied.")


class NotFound(StoreError):
    """There is no such row."""

    def __init__(self, noun: str, identity: str) -> None:
        self.noun, self.identity = noun, identity
        super().__init__(f"There is no {noun} {identity!r}.")


class IngestError(TrimtabError):
    """Data could not be taken in."""


class FileRejected(IngestError):
    """A file that cannot be loaded at all; nothing of it was applied.

    Args: `file` name as the user knows it, `problem` (what came, where), `remedy` (what to do).
    """

    def __init__(self, file: str, problem: str, remedy: str) -> None:
        self.file, self.problem, self.remedy = file, problem, remedy
        super().__init__(f"{file}: {problem} {remedy} Nothing of it was loaded.")


class RecordRejected(IngestError):
    """One record that cannot be loaded; it is kept as a reject and the rest of the file goes on."""

    def __init__(self, reason: str, column: str | None = None) -> None:
        self.reason, self.column = reason, column
        super().__init__(reason)


class IngestCancelled(IngestError):
    """The load was cancelled; nothing of the file was applied."""

    def __init__(self, file: str) -> None:
        self.file = file
        super().__init__(f"Loading {file} was cancelled; nothing of it was applied.")


class IngestInterrupted(IngestError):
    """The process is ending in the middle of a load; nothing was applied and what is staged is kept."""

    def __init__(self, file: str) -> None:
        self.file = file
        super().__init__(f"Loading {file} stopped because Trimtab is stopping; load it again and it continues.")


class JobError(TrimtabError):
    """A job could not be run."""


class UnknownJob(JobError):
    """There is no job of this name."""

    def __init__(self, job: str, known: list[str]) -> None:
        self.job, self.known = job, known
        super().__init__(f"There is no job {job!r}. Known jobs: {', '.join(known)}.")


class JobAlreadyRunning(JobError):
    """A job runs once at a time."""

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(f"Job {job!r} is running already; wait for it to finish.")


class ActionRefused(TrimtabError):
    """An operator's action that the present state does not allow.

    Args: `action`, why it was refused, what to do instead.
    """

    def __init__(self, action: str, why: str, remedy: str) -> None:
        self.action, self.why, self.remedy = action, why, remedy
        super().__init__(f"{action}: {why} {remedy}")


class Forbidden(TrimtabError):
    """An operator's action that their role does not allow; nothing was changed.

    Args: `action`, the role that is `needed`, the role that is `held`: None for somebody who is no operator.
    """

    def __init__(self, action: str, needed: str, held: str | None) -> None:
        self.action, self.needed, self.held = action, needed, held
        have = f"you have the role {held}" if held else "you are not signed in as an operator"
        super().__init__(f"{action}: this needs the role {needed}, and {have}. Nothing was changed. Ask an admin.")
