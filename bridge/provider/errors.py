"""The errors of the provider's API. Each message says which call failed, why, and what to do."""

from __future__ import annotations


class ProviderError(Exception):
    """A call of the provider's API has failed."""


class MissingTokenError(ProviderError):
    """There is no API token, so the provider cannot be asked."""


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or answered 429 or 5xx, until the attempts were used up."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """The provider's `Retry-After` in seconds, capped by the settings; None if there was none."""


class ServerFailureError(ProviderUnavailableError):
    """The provider answered 5xx, or broke off its answer."""


class ThrottledError(ProviderUnavailableError):
    """The provider answered 429: there were more calls than it allows."""


class UnauthorizedError(ProviderError):
    """The provider rejected the API token (401 or 403)."""


class UnknownMessageError(ProviderError):
    """The provider knows no message of that id (404)."""


class UnexpectedAnswerError(ProviderError):
    """The provider answered with a status or a body that we cannot read."""


class NotHttpError(UnexpectedAnswerError):
    """The answer is not valid HTTP."""
