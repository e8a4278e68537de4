"""What a page can end in: a status, what happened, and what to do."""

from __future__ import annotations

from http import HTTPStatus


class PageError(Exception):
    """Ends a request with a page, or a fragment, that says what happened."""

    status = HTTPStatus.BAD_REQUEST
    title = "This cannot be done"

    def __init__(self, detail: str, *, title: str | None = None, status: HTTPStatus | None = None) -> None:
        """Make one.

        Args:
            detail: one to three sentences: what is wrong, with what, and what to do.
            title: the heading, where it is another than the class's.
            status: of the answer, where it is another than the class's.
        """
        super().__init__(detail)
        self.detail = detail
        self.title = self.title if title is None else title
        self.status = self.status if status is None else status


class ForbiddenError(PageError):
    """The token has not the scope, or the request does not come from a page of the console."""

    status = HTTPStatus.FORBIDDEN
    title = "This token may not do that"


class NotFoundError(PageError):
    """There is no such page, or what it would show is gone."""

    status = HTTPStatus.NOT_FOUND
    title = "There is no such page"


class InvalidFieldError(PageError):
    """A field of a form, or of the address, has a value that cannot be."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Something in the form is wrong"


class UnavailableError(PageError):
    """A dependency does not answer now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "A dependency does not answer"
