"""`api.tokens`: name, scopes and token of each."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from bridge.settings.api_section import CHECK, READ, Api, ApiToken, read_token
from bridge.settings.sections import Settings
from bridge.settings.values import complaint_of
from bridge.telemetry.scrubbing import HIDDEN, Scrubber, secrets_of

TOKEN = "a-token-of-the-tests"


def test_the_parts_of_a_token_are_read() -> None:
    """Several scopes, each once."""
    assert read_token(f"mailer:check+read+check:{TOKEN}") == ApiToken(
        "mailer", frozenset({CHECK, READ}), TOKEN
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (TOKEN, "api.tokens.0: not of the form name:scope+scope:TOKEN"),
        (f":check:{TOKEN}", "not of the form"),
        (f"a name:check:{TOKEN}", "not of the form"),
        (f"mailer:check:{TOKEN}:more", "not of the form"),
        ("mailer:check:short", "not of the form"),
        (
            f"mailer::{TOKEN}",
            "the token 'mailer' has the unknown scope ''; there are check, read, write, override",
        ),
        (f"mailer:check,read:{TOKEN}", "the unknown scope 'check,read'"),
        (f"mailer:Check:{TOKEN}", "the unknown scope 'Check'"),
    ],
)
def test_what_is_wrong_is_said_without_the_token(text: str, complaint: str) -> None:
    """One line that names the setting."""
    with pytest.raises(ValidationError) as raised:
        Settings(api={"tokens": [text]})
    said = complaint_of(raised.value)
    assert complaint in said
    assert TOKEN not in said


def test_a_list_in_a_variable_has_commas_between_its_tokens() -> None:
    """And plus signs between the scopes."""
    section = Api(tokens=f"a:check:{TOKEN}1, b:check+read:{TOKEN}2")
    assert [read_token(one.get_secret_value()).name for one in section.tokens] == ["a", "b"]


def test_the_token_alone_is_hidden_in_logs() -> None:
    """As it comes in a header, without its name and scopes."""
    settings = Settings(api=Api(tokens=(SecretStr(f"mailer:check:{TOKEN}"),)))
    scrubber = Scrubber(secrets_of(settings))
    assert scrubber.text(f"somebody wrote {TOKEN} here") == f"somebody wrote {HIDDEN} here"
