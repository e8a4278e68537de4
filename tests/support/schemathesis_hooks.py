"""What the formats in the OpenAPI file mean, for the requests that schemathesis makes up: JSON Schema cannot say it."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

_NAMES = st.text("abcxyz", min_size=1, max_size=8)
_DOMAINS = st.builds("{}.example".format, _NAMES)
_MAILBOXES = st.builds("{}+{}@{}".format, _NAMES, _NAMES, _DOMAINS)

_FORMATS = {
    "mailbox": _MAILBOXES,
    "domain": _DOMAINS,
    "mailbox-or-domain": _MAILBOXES | _DOMAINS,
    "storable": st.text("abc %_é", max_size=20),
    "cursor": st.just("WyJhQGIuZXhhbXBsZSIsIm1hbnVhbCJd"),
    "cursor-of-rules": st.just("WyJhLmV4YW1wbGUiXQ"),
    "message-id": _NAMES,
    "idempotency-key": _NAMES,
}

for _name, _strategy in _FORMATS.items():
    schemathesis.openapi.format(_name, _strategy)
