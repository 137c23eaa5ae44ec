"""Failures a user can act on.

Whatever cgdcli raises on purpose is a `CGDError`: what is wrong with which value, the rule it
breaks, and what to do about it. `cgd` prints both lines and exits with `exit_code`; a Python
caller catches one class. Any other exception is a bug in cgdcli and keeps its traceback.
"""


class CGDError(Exception):
    """Base of all expected failures.

    Args:
        what: what is wrong, naming the value, and the rule that it breaks.
        hint: what the user can do now; a command where there is one.
    """

    exit_code = 1
    everywhere = False  # raised by every process of a run at once; the first one says it

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint

    def __str__(self) -> str:
        return f"{self.what} (hint: {self.hint})"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive pickling by themselves, and a worker's error must.
        return (_rebuild, (type(self), self.what, self.hint))


def _rebuild(kind: type[CGDError], what: str, hint: str) -> CGDError:
    return kind(what, hint=hint)


class ConfigError(CGDError, ValueError):
    """A chosen value is outside its limits: wrong usage."""

    exit_code = 2


class ImageError(CGDError):
    """One picture cannot be read."""

    def __init__(self, what: str, *, hint: str = "open the file in a viewer to check it") -> None:
        super().__init__(what, hint=hint)


class DatasetError(CGDError):
    """A folder or table of pictures does not hold what the command needs."""


class CheckpointError(CGDError):
    """A weights file cannot be read, or not as what it was taken for."""


class OutputError(CGDError):
    """A result cannot be written where it was asked for."""


class IndexFileError(CGDError):
    """An index is damaged, or is not one."""


class MismatchError(CGDError):
    """Files that do not belong together: an index and another model, halves of two indexes."""

    exit_code = 4


class TrainingError(CGDError):
    """A run cannot begin, go on, or be resumed."""
