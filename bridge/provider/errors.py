"""How a call of the provider's API fails. Each message says which call, what happened and what to do."""

from __future__ import annotations


class ProviderError(Exception):
    """A call to the provider did not succeed."""


class MissingTokenError(ProviderError):
    """There is no API token, so the provider cannot be asked."""


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or answered 429 or 5xx, until the attempts were used up."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the provider asked us to wait (capped by the settings), if it did."""


class ServerFailureError(ProviderUnavailableError):
    """The provider answered 5xx, or broke off its answer."""


class ThrottledError(ProviderUnavailableError):
    """The provider answered 429: more calls than it allows."""


class UnauthorizedError(ProviderError):
    """The provider refused the API token (401 or 403)."""


class UnknownMessageError(ProviderError):
    """The provider knows no message of that id (404)."""


class UnexpectedAnswerError(ProviderError):
    """The provider answered with a status or a body that we cannot read."""


class NotHttpError(UnexpectedAnswerError):
    """Something answered that is not HTTP as we know it."""
