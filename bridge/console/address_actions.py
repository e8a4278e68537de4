"""What people do with an address: lift, add, allow, take the permission back, erase. All of it goes through the list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from bridge.api.erasing import NOT_ERASED
from bridge.console.address_words import REASONS, in_words
from bridge.console.forms import Form, RefusedError, is_ticked, note_of, once_of
from bridge.console.parts import parts_of
from bridge.console.visitor import visitor_of
from bridge.settings.api_section import OVERRIDE, WRITE
from bridge.suppression.additions import Addition
from bridge.suppression.address_keys import domain_of, is_hash
from bridge.suppression.addresses import InvalidAddressError, normalise
from bridge.suppression.errors import (
    IdempotencyConflictError,
    NoPrivacyKeyError,
    NoSuchRuleError,
    NotSuppressedError,
    ProtectedComplaintError,
)
from bridge.suppression.policy import Reason
from bridge.tasks import run_shielded
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from bridge.suppression.store import Store

Action = Callable[[web.Request, str, Form], Awaitable["Done"]]


class Done(NamedTuple):
    """What an action has done."""

    address: str
    """Of which the page is shown next."""
    sentence: str
    """Which that page says."""


async def lift(request: web.Request, address: str, form: Form) -> Done:
    """Take it off the list, for one reason or for all. Complaints only with the scope, and with a box that is ticked."""
    visitor, store = visitor_of(request), parts_of(request).opened.store
    visitor.require(WRITE, "lifting an address")
    if override := is_ticked(form, "override"):
        visitor.require(OVERRIDE, "lifting a complaint")
    note, reason = note_of(form), _reason(form)
    try:
        removed = await store.remove(
            address, reason=reason, actor=visitor.actor, note=note, override=override
        )
    except NotSuppressedError:
        raise RefusedError(await _is_gone(store, address, reason), status=HTTPStatus.CONFLICT) from None
    except ProtectedComplaintError:
        raise RefusedError(
            "Nothing was lifted: the recipient has complained. To write to this address again takes a token with the "
            "scope “override”, and the box ticked that says so.",
            status=HTTPStatus.CONFLICT,
        ) from None
    return Done(address, f"Lifted: {in_words(entry.reason for entry in removed)}.")


async def add(request: web.Request, address: str, form: Form) -> Done:
    """Put it on the list, for good or until a day ends."""
    visitor, store = visitor_of(request), parts_of(request).opened.store
    visitor.require(WRITE, "adding an address")
    wanted = Addition(address, _reason(form) or Reason.MANUAL, note_of(form), _expires_at(form))
    try:
        (result,) = await store.add_many(
            [wanted], actor=visitor.actor, idempotency_key=once_of(form, visitor.actor)
        )
    except IdempotencyConflictError:
        raise RefusedError(
            "Nothing was changed: the same form was sent before with other values, and that counts. Send it again if you "
            "want this, too.",
            status=HTTPStatus.CONFLICT,
        ) from None
    if result.error is not None:
        raise InvalidAddressError(result.error)
    return Done(address, f"It is on the list now: {REASONS[result.reason]}.")


async def allow(request: web.Request, address: str, form: Form) -> Done:
    """Have the address, or all of its domain, written to although events have put it on the list."""
    visitor, store = visitor_of(request), parts_of(request).opened.store
    visitor.require(WRITE, "allowing an address")
    if over_complaints := is_ticked(form, "over_complaints"):
        visitor.require(OVERRIDE, "allowing in spite of complaints")
    domain = domain_of(address if is_hash(address) else normalise(address))
    whole = form.get("scope") == "domain" and bool(domain)
    put = await store.allow_list.put(
        f"@{domain}" if whole else address,
        actor=visitor.actor,
        note=note_of(form),
        over_complaints=over_complaints,
        override=over_complaints,
    )
    return Done(address, f"Allowed: {f'all of {put.rule.pattern}' if whole else 'this address'}.")


async def disallow(request: web.Request, address: str, form: Form) -> Done:
    """Take the rule away that allows it."""
    visitor, store = visitor_of(request), parts_of(request).opened.store
    visitor.require(WRITE, "changing the allow-list")
    note = note_of(form)
    rule = (await store.inquiries.about(address)).rule
    if rule is None or rule.pattern != form.get("pattern"):
        raise RefusedError(_RULE_GONE, status=HTTPStatus.CONFLICT)
    pattern = rule.pattern if "@" in rule.pattern or is_hash(rule.pattern) else f"@{rule.pattern}"
    try:
        await store.allow_list.delete(pattern, actor=visitor.actor, note=note)
    except NoSuchRuleError:
        raise RefusedError(_RULE_GONE, status=HTTPStatus.CONFLICT) from None
    return Done(address, f"The rule for {rule.pattern} is gone.")


async def erase(request: web.Request, address: str, form: Form) -> Done:
    """Erase the person: a keyed hash and the reasons stay."""
    visitor, store = visitor_of(request), parts_of(request).opened.store
    visitor.require(OVERRIDE, "erasing a person")
    note = note_of(form)
    if not _is_confirmed(address, form.get("confirm", "")):
        raise RefusedError("Nothing was erased: the address in the field is another one. Type it once more.")
    try:
        # Whoever closes the page has asked for it all the same: half an erasure would have to be made again.
        erased = await run_shielded(
            store.erasures.erase(address, actor=visitor.actor, note=note), name="console.erasure"
        )
    except NoPrivacyKeyError as error:
        raise RefusedError(f"Nothing was erased: {error}.", status=HTTPStatus.CONFLICT) from None
    found = ", ".join(f"{rows} {what}" for what, rows in erased.found.items() if rows) or "nothing"
    return Done(erased.key, f"Erased: {found}. Not erased: {'; '.join(NOT_ERASED)}.")


ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {"lift": lift, "add": add, "allow": allow, "disallow": disallow, "erase": erase}
)
"""The last part of a form's path -> what it does."""

_RULE_GONE: Final = "Nothing was changed: the rule that you have seen is not there any more. Somebody has changed it meanwhile."


async def _is_gone(store: Store, address: str, reason: Reason | None) -> str:
    """Why there is nothing to lift: two people may have looked at the same address."""
    what = "It is not on the list" if reason is None else f"It is not on the list for “{REASONS[reason]}”"
    for change in await store.inquiries.latest_changes(address, limit=1):
        if change.action in {"removed", "expired"}:
            note = f" (“{change.note}”)" if change.note else ""
            return f"{what} any more: {change.actor} has taken it off at {rfc3339(change.at)}{note}."
    return f"{what}. Nothing was changed."


def _reason(form: Form) -> Reason | None:
    given = form.get("reason", "")
    if given == "":
        return None
    if given not in set(Reason):
        raise RefusedError("Nothing was changed: there is no such reason.")
    return Reason(given)


def _expires_at(form: Form) -> int | None:
    """The end of the day that was given; None: never."""
    given = form.get("until", "")
    if given == "":
        return None
    try:
        end = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise RefusedError("Nothing was changed: the day must be written as 2027-12-31.") from None
    if end <= datetime.now(UTC):
        raise RefusedError(f"Nothing was changed: {given} is over already.")
    return int(end.timestamp())


def _is_confirmed(address: str, typed: str) -> bool:
    if is_hash(address):
        return typed.strip() == address
    try:
        return normalise(typed) == normalise(address)
    except InvalidAddressError:
        return False
