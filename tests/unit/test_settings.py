"""Where a setting comes from, and what is said when it cannot be used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, get_args

import pytest

from bridge.broker import topology_plan
from bridge.events import KNOWN_NAMES
from bridge.settings import sections
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.loading import load_settings
from bridge.settings.sources import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, SECRETS_VARIABLE
from bridge.settings.subscribers import Subscriber
from bridge.suppression import change

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECRET = "an-uncommon-secret"
LINE = "[receiver]\nport = 5\n"


@pytest.fixture(autouse=True)
def no_other_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has in the environment must not stand in for what a test sets."""
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


class Sources:
    """Writes each source of settings."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._monkeypatch = monkeypatch

    def variable(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    def file_variable(self, name: str, content: str | bytes) -> None:
        path = self._directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self._monkeypatch.setenv(name, str(path))

    def secret(self, name: str, content: str | bytes) -> None:
        directory = self._directory / "secrets"
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
        self._monkeypatch.setenv(SECRETS_VARIABLE, str(directory))

    def config(self, content: str | bytes) -> Path:
        path = self._directory / "bridge.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    return Sources(tmp_path, monkeypatch)


def api_token(settings: sections.Settings) -> str | None:
    token = settings.provider.api_token
    return None if token is None else token.get_secret_value()


def refused(config: Path | None = None, overrides: Mapping[str, Mapping[str, object]] | None = None) -> str:
    """Why these settings cannot be used: always one line, and never the secret."""
    with pytest.raises(InvalidSettingsError) as refusal:
        load_settings(config, overrides)
    reason = str(refusal.value)
    assert "\n" not in reason
    assert "uncommon" not in reason
    return reason


def test_each_source_wins_over_the_next(sources: Sources) -> None:
    """Command line, environment, file that a variable names, folder of secrets, settings file, default."""
    assert api_token(load_settings()) is None, "the default"
    config = sources.config('[provider]\napi_token = "of-the-file"\n')
    assert api_token(load_settings(config)) == "of-the-file"
    sources.secret("provider__api_token", "of-the-folder\n")
    assert api_token(load_settings(config)) == "of-the-folder"
    sources.file_variable("BRIDGE_PROVIDER__API_TOKEN_FILE", "of-the-named-file\n")
    assert api_token(load_settings(config)) == "of-the-named-file"
    sources.variable("BRIDGE_PROVIDER__API_TOKEN", "of-the-variable")
    assert api_token(load_settings(config)) == "of-the-variable"
    assert api_token(load_settings(config, {"provider": {"api_token": "of-the-command"}})) == "of-the-command"


def test_sources_are_mixed_by_name_not_by_section(sources: Sources) -> None:
    """A name that one source leaves out comes from the next."""
    config = sources.config("[receiver]\nport = 1\nretry_after = 2\nconfirm_wait = 3\n")
    sources.variable("BRIDGE_RECEIVER__RETRY_AFTER", "20")
    receiver = load_settings(config, {"receiver": {"confirm_wait": 30}}).receiver
    assert (receiver.port, receiver.retry_after, receiver.confirm_wait) == (1, 20, 30)


def test_the_file_may_be_named_by_a_variable(sources: Sources) -> None:
    """`BRIDGE_CONFIG`, and `--config` wins over it."""
    sources.variable(CONFIG_VARIABLE, str(sources.config(LINE)))
    assert load_settings().receiver.port == 5
    assert "there is no such settings file" in refused(sources.config(LINE).with_name("missing.toml"))


def test_lists_are_written_with_commas(sources: Sources) -> None:
    """In a variable, in a file that a variable names, and as a list of TOML."""
    sources.variable("BRIDGE_RECEIVER__TOKENS", "the-first-of-tokens, the-second-of-tokens,")
    sources.file_variable("BRIDGE_RABBITMQ__URLS_FILE", "amqp://a:b@one/,amqps://two:5671/mail\n")
    settings = load_settings(
        sources.config('[suppression]\nevents = ["complined", "hard_bounced", "complained"]\n')
    )
    assert [token.get_secret_value() for token in settings.receiver.tokens] == [
        "the-first-of-tokens",
        "the-second-of-tokens",
    ]
    assert [url.get_secret_value() for url in settings.rabbitmq.urls] == [
        "amqp://a:b@one/",
        "amqps://two:5671/mail",
    ]
    assert settings.suppression.events == ("complained", "hard_bounced"), "either spelling, each once"


@pytest.mark.parametrize("name", ["BRIDGE_RABBITMQ__URL", "bridge_rabbitmq__url"])
def test_the_broker_has_a_short_name(sources: Sources, name: str) -> None:
    """`URL` is `URLS`, as is `URL_FILE`; the longer name wins where both are set. Capitals do not matter."""
    sources.file_variable(f"{name}_FILE" if name.isupper() else f"{name}_file", "amqp://of-the-file/")
    assert broker(load_settings()) == "amqp://of-the-file/"
    sources.variable(name, "amqp://short/")
    assert broker(load_settings()) == "amqp://short/"
    sources.variable("BRIDGE_RABBITMQ__URLS", "amqp://long/")
    assert broker(load_settings()) == "amqp://long/"


def test_subscribers_are_tables_of_the_file(sources: Sources) -> None:
    """Each with its queue, and its events in our spelling."""
    [subscriber] = load_settings(
        sources.config('[[subscribers]]\nqueue = "billing"\nevents = ["complined", "x"]\n')
    ).subscribers
    assert (subscriber.queue, subscriber.events) == ("billing", ("complained", "x"))


@pytest.mark.parametrize(
    "queue",
    ["suppression", "suppression.dead", "suppression.mine", "email.events.archive", "email.malformed"],
)
def test_a_subscriber_is_not_called_like_one_of_our_own_queues(sources: Sources, queue: str) -> None:
    """It would get the events of ours, or mix others into them; one line names it."""
    sources.variable("BRIDGE_SUBSCRIBERS", f'[{{"queue": "{queue}", "events": ["opened"]}}]')
    with pytest.raises(InvalidSettingsError, match=rf"^subscribers\.0\.queue: '{queue}' is reserved for"):
        load_settings()


def test_every_queue_of_our_own_is_refused_as_a_subscribers() -> None:
    """Whatever the topology comes to name one day."""
    planned = topology_plan.plan(sections.RabbitMQ(), suppressing=["hard_bounced"], retry_delays=[30, 0.5])
    for queue in planned.queues:
        with pytest.raises(ValueError, match="is reserved for the bridge"):
            Subscriber(queue=queue.name, events=("opened",))


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("RABBITMQ__PREFIX", "amq.", "rabbitmq.prefix"),
        ("SUBSCRIBERS", '[{"queue": "amq.crm", "events": ["opened"]}]', "subscribers.0.queue"),
    ],
)
def test_a_name_that_rabbitmq_keeps_for_itself_is_refused(
    sources: Sources, variable: str, value: str, key: str
) -> None:
    """It would be tried again and again, and called a lack of rights."""
    sources.variable(f"BRIDGE_{variable}", value)
    with pytest.raises(
        InvalidSettingsError, match=rf"^{key}: names that begin with 'amq\.' are RabbitMQ's own"
    ):
        load_settings()


def test_names_that_only_look_like_ours_are_free(sources: Sources) -> None:
    """RabbitMQ tells capitals apart, and so do we."""
    names = ["Suppression", "suppressions", "my.suppression", "email", "emails.crm"]
    entries = ", ".join(f'{{"queue": "{name}", "events": ["opened"]}}' for name in names)
    sources.variable("BRIDGE_SUBSCRIBERS", f"[{entries}]")
    assert [subscriber.queue for subscriber in load_settings().subscribers] == names


@pytest.mark.parametrize("name", [*get_args(change.Action), "expired", "Added"])
def test_a_subscriber_of_what_is_no_event_but_a_change_of_the_list_is_refused(
    sources: Sources, name: str
) -> None:
    """It would wait for what never comes; the line says where such changes are."""
    sources.variable("BRIDGE_SUBSCRIBERS", f'[{{"queue": "crm", "events": ["opened", "{name}"]}}]')
    with pytest.raises(
        InvalidSettingsError,
        match=rf"^subscribers\.0\.events: '{name}' is not an event .* changes = true",
    ):
        load_settings()


def test_a_subscriber_that_is_named_twice_is_refused(sources: Sources) -> None:
    """One line says which."""
    sources.variable(
        "BRIDGE_SUBSCRIBERS", '[{"queue": "crm", "events": ["opened"]}, {"queue": "crm", "events": ["#"]}]'
    )
    with pytest.raises(InvalidSettingsError, match=r"^subscribers: the queue 'crm' is named twice"):
        load_settings()


@pytest.mark.parametrize(
    ("pattern", "events"),
    [
        ("*bounced", ("hard_bounced", "soft_bounced")),
        ("Un*", ("unsubscribed",)),
        ("complin*", ("complained",)),
        ("?pened", ("opened",)),
        ("*", tuple(sorted(KNOWN_NAMES))),
        ("#", ("#",)),
        ("opened,*opened,new_one", ("opened", "new_one")),
    ],
)
def test_a_pattern_stands_for_the_known_names_that_it_matches(
    sources: Sources, pattern: str, events: tuple[str, ...]
) -> None:
    """In either spelling, each once; a name stays what it is, known or not, and so does RabbitMQ's own #."""
    sources.variable("BRIDGE_SUBSCRIBERS", f'[{{"queue": "crm", "events": "{pattern}"}}]')
    assert load_settings().subscribers[0].events == events


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ('"events": ["opened", "*bonced"]', "subscribers.0.events: '*bonced' matches no event; the known ones are"),
        ('"events": ["mal*"]', "subscribers.0.events: 'mal*' matches no event"),
        (f'"events": ["{"x" * 256}"]', "subscribers.0.events: the name of an event is printable text of 1 to 255"),
        ('"events": [""]', "subscribers.0.events: the name of an event is printable text"),
        ('"events": []', "subscribers.0: 'crm' gets nothing: give it events, or changes = true"),
        ('"changes": true, "max_length": 0', "subscribers.0.max_length: Input should be greater than or equal to 1"),
        ('"changes": true, "ttl": 4294968', "subscribers.0.ttl: Input should be less than or equal to 4294967"),
        ('"changes": true, "delivery_limit": 0', "subscribers.0.delivery_limit: Input should be greater than or"),
    ],
)  # fmt: skip
def test_a_subscriber_that_cannot_be_is_one_line(sources: Sources, fields: str, reason: str) -> None:
    """Which names the entry, and what is wrong with it."""
    sources.variable("BRIDGE_SUBSCRIBERS", f'[{{"queue": "crm", {fields}}}]')
    assert refused().startswith(reason)


@pytest.mark.parametrize(
    ("queue", "reason"),
    [
        ("our crm", "'our crm' is no name for a queue: give letters, digits and . _ -"),
        ("", "'' is no name for a queue"),
        ("q" * 151, f"'{'q' * 20}…' has 151 characters, and may have 150: RabbitMQ takes 255 bytes, with"),
        ("crm.moving", "'crm.moving' is reserved for the bridge"),
    ],
)
def test_a_name_that_no_queue_can_have_is_one_line(sources: Sources, queue: str, reason: str) -> None:
    """Of 150 characters one can be, with the longest prefix and `.dead`."""
    sources.variable("BRIDGE_SUBSCRIBERS", f'[{{"queue": "{queue}", "changes": true}}]')
    assert refused().startswith(f"subscribers.0.queue: {reason}")
    longest = Subscriber(queue="q" * 150, changes=True)
    assert len("p" * 100 + longest.dead) == 255


@pytest.mark.parametrize("names", [("crm", "crm.dead"), ("crm.dead", "crm")])
def test_a_subscriber_is_not_called_like_the_dead_letters_of_another(
    sources: Sources, names: tuple[str, str]
) -> None:
    """Whichever comes first."""
    entries = ", ".join(f'{{"queue": "{name}", "changes": true}}' for name in names)
    sources.variable("BRIDGE_SUBSCRIBERS", f"[{entries}]")
    assert refused() == (
        "subscribers: 'crm.dead' is the queue of the dead letters of 'crm'; choose another name"
    )


def test_a_section_may_be_given_as_json(sources: Sources) -> None:
    """For what has no variable of its own."""
    sources.variable("BRIDGE_SUBSCRIBERS", '[{"queue": "billing", "events": ["delivered"]}]')
    assert load_settings().subscribers[0].queue == "billing"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("BRIDGE_PROVIDER__API_TOKN", "BRIDGE_PROVIDER__API_TOKN"),
        ("BRIDGE_PROVDER__API_TOKEN", "BRIDGE_PROVDER__API_TOKEN"),
        ("BRIDGE_PROVIDER__API_TOKEN__X", "BRIDGE_PROVIDER__API_TOKEN__X"),
        ("BRIDGE_PROVIDER__API_TOKN_FILE", "BRIDGE_PROVIDER__API_TOKN_FILE"),
    ],
)
def test_a_variable_that_is_no_setting_is_named(sources: Sources, name: str, key: str) -> None:
    """A slip of the pen is no silence: a role with a default where a secret was meant would start."""
    sources.variable(name, SECRET)
    assert refused() == f"{key}: there is no such setting; `bridge config show` lists them all"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (f'[provider]\napi_tokn = "{SECRET}"\n', "provider.api_tokn"),
        (f'[provder]\napi_token = "{SECRET}"\n', "provder"),
        (f'[[subscribers]]\nqueue = "a"\nevents = ["x"]\ntoken = "{SECRET}"\n', "subscribers.0.token"),
    ],
)
def test_a_key_of_the_file_that_is_no_setting_is_named(sources: Sources, content: str, key: str) -> None:
    """With its section."""
    assert refused(sources.config(content)) == f"{key}: there is no such setting"


def test_a_secret_that_is_no_setting_is_named(sources: Sources) -> None:
    """In a section of ours; what other programs keep in the same folder is not our business."""
    sources.secret("postgres_password", SECRET)
    load_settings()
    sources.secret("provider__api_tokn", SECRET)
    assert refused() == "provider.api_tokn: there is no such setting"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("RECEIVER__PORT", SECRET, "receiver.port: Input should be a valid integer"),
        ("RECEIVER__PORT", "70000", "receiver.port: Input should be less than or equal to 65535"),
        ("RECEIVER__PROCESSES", "0", "receiver.processes: Input should be greater than or equal to 1"),
        ("RECEIVER__PROCESSES", "65", "receiver.processes: Input should be less than or equal to 64"),
        ("RECEIVER__CONFIRM_WAIT", "0", "receiver.confirm_wait: Input should be greater than 0"),
        ("RECEIVER__CONFIRM_WAIT", "inf", "receiver.confirm_wait: Input should be a finite number"),
        ("RECEIVER__TOKENS", "uncommon", "receiver.tokens.0: a token is 16 or more letters"),
        ("RECEIVER__TOKENS", f"{SECRET},{SECRET}/", "receiver.tokens.1: a token is 16 or more letters"),
        ("RABBITMQ__URLS", f"http://a:{SECRET}@b/", "rabbitmq.urls.0: not a URL of the form amqp://"),
        ("RABBITMQ__URL", f"amqp://a:{SECRET}@b:99999/", "rabbitmq.urls.0: Port out of range"),
        ("RABBITMQ__URLS", ",", "rabbitmq.urls: Tuple should have at least 1 item"),
        ("RABBITMQ__DECLARE", SECRET, "rabbitmq.declare: Input should be 'auto', 'always' or 'never'"),
        ("RABBITMQ__PREFIX", "a b", "rabbitmq.prefix: String should match pattern"),
        ("PROVIDER__BASE_URL", f"https://a:{SECRET}@b/", "provider.base_url: not a URL of the form https://"),
        (
            "PROVIDER__API_TOKEN",
            f"{SECRET} x",
            "provider.api_token: an API token of the provider is printable",
        ),
        (
            "SUPPRESSION__EVENTS",
            "hard_bounced,opened",
            "suppression.events.1: Input should be 'hard_bounced'",
        ),
        (
            "SUPPRESSION__SOFT_BOUNCE_EXPIRY",
            "2592001",
            "suppression: soft_bounce_expiry_max (2592000 s) is below soft_bounce_expiry (2592001 s)",
        ),
        ("SUPPRESSION__SKIP_EXPIRY", "0", "suppression.skip_expiry: Input should be greater than or equal"),
        ("LOGS__LEVEL", "loud", "logs.level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("PROVIDER", SECRET, "provider: given as a whole (as BRIDGE_PROVIDER,"),
        ("SUBSCRIBERS", SECRET, "subscribers: given as a whole (as BRIDGE_SUBSCRIBERS,"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_key(
    sources: Sources, name: str, value: str, reason: str
) -> None:
    """And what is wrong with it, but not the value: it may be a secret."""
    sources.variable(f"BRIDGE_{name}", value)
    assert refused().startswith(reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[receiver]\ntokens = 5\n", "receiver.tokens: Input should be a valid tuple"),
        ("[suppression]\nevents = 5\n", "suppression.events: Input should be a valid tuple"),
        ('[suppression]\nevents = [["opened"]]\n', "suppression.events.0: Input should be 'hard_bounced'"),
        ("[suppression]\nevents = []\n", "suppression.events: Tuple should have at least 1 item"),
        ("[provider]\napi_token = 5\n", "provider.api_token: Input should be a valid string"),
        ("provider = 5\n", "provider: Input should be a valid dictionary"),
        (
            '[[subscribers]]\nqueue = "a b"\nevents = ["x"]\n',
            "subscribers.0.queue: 'a b' is no name for a queue",
        ),
        (
            '[[subscribers]]\nqueue = "a"\n',
            "subscribers.0: 'a' gets nothing: give it events, or changes = true",
        ),
    ],
)
def test_a_bad_value_in_the_file_is_one_line_that_names_the_key(
    sources: Sources, content: str, reason: str
) -> None:
    """Types that only a file can have, too."""
    assert refused(sources.config(content)).startswith(reason)


@pytest.mark.parametrize(
    "content", [f'[provider\napi_token = "{SECRET}"\n', f'[provider]\napi_token = "{SECRET}']
)
def test_a_file_that_is_no_toml_is_named(sources: Sources, content: str) -> None:
    """With the place in it, where the parser knows it."""
    config = sources.config(content)
    assert refused(config).startswith(f"{config}: ")


def test_bytes_that_are_no_text_are_named(sources: Sources) -> None:
    """The settings file, a secret, or a file that a variable names: the one that it is, not another."""
    config = sources.config(b"\xff")
    assert refused(config) == f"{config} is not UTF-8 text"
    sources.file_variable("BRIDGE_PROVIDER__API_TOKEN_FILE", b"\xff")
    assert refused().startswith("BRIDGE_PROVIDER__API_TOKEN_FILE: ")


def test_a_secret_that_is_no_text_is_refused(sources: Sources) -> None:
    """With its place."""
    sources.secret("provider__api_token", b"\xff")
    assert refused().endswith("secrets/provider__api_token is not UTF-8 text")


def test_files_that_are_missing_are_named(sources: Sources, tmp_path: Path) -> None:
    """Also when a settings file is given that has nothing to do with it."""
    missing = str(tmp_path / "missing")
    sources.variable("BRIDGE_PROVIDER__API_TOKEN_FILE", missing)
    assert refused() == f"BRIDGE_PROVIDER__API_TOKEN_FILE: cannot read {missing}: No such file or directory"


def test_a_folder_of_secrets_that_is_missing_is_named(sources: Sources, tmp_path: Path) -> None:
    """It is not the settings file's fault."""
    sources.variable(SECRETS_VARIABLE, str(tmp_path / "missing"))
    reason = refused(sources.config(LINE))
    assert reason.startswith(f"{SECRETS_VARIABLE}: ")
    assert str(tmp_path / "missing") in reason


def test_secrets_are_not_in_what_settings_print(sources: Sources) -> None:
    """Whoever logs the settings by accident logs no secret."""
    sources.variable("BRIDGE_PROVIDER__API_TOKEN", SECRET)
    sources.variable("BRIDGE_RECEIVER__TOKENS", SECRET)
    sources.variable("BRIDGE_RABBITMQ__URL", f"amqp://a:{SECRET}@b/")
    settings = load_settings()
    assert api_token(settings) == SECRET
    assert "uncommon" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_every_knob_can_be_set_by_its_variable(sources: Sources) -> None:
    """The name that `config show` prints is the name that is read."""
    samples = {"receiver.port": "1234", "logs.level": "error", "worker.prefetch": "7"}
    by_key = {knob.key: knob.variable for knob in sections.setting_names()}
    for key, value in samples.items():
        sources.variable(by_key[key], value)
    settings = load_settings()
    assert (settings.receiver.port, settings.logs.level, settings.worker.prefetch) == (1234, "error", 7)


def broker(settings: sections.Settings) -> str:
    return settings.rabbitmq.urls[0].get_secret_value()
