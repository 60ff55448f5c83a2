"""The one exception tree. A message is a sentence: the value that was wrong, and the next step."""


class RecsysError(Exception):
    """Anything Nightshelf refuses to do."""


class InputError(RecsysError):
    """A catalogue, event log, mapping or request that cannot be used as it is."""


class FilterError(InputError):
    """A filter that the live release cannot apply: `field` has `value`, and `allowed` says what it
    may have."""

    def __init__(self, message: str, field: str, value: str, allowed: str) -> None:
        super().__init__(message)
        self.field, self.value, self.allowed = field, value, allowed


class NotFoundError(RecsysError):
    """An item, user, release or file that is not there."""


class SpaceMismatchError(RecsysError):
    """Vectors of two spaces met; their dot products would mean nothing."""


class ReleaseError(RecsysError):
    """A release that is damaged, unfinished, or failed its checks before publishing."""


class RefusedError(ReleaseError):
    """A night whose input or release failed checks. `checks` are the names by which all of them can
    be allowed once; none where one of them cannot."""

    def __init__(self, sentence: str, checks: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.checks = checks


class FullError(RecsysError):
    """The disk has no room left: nothing was written."""


class StoreDownError(RecsysError):
    """A store that does not answer now; the same call may go through later."""
