"""Settings as platforms and people's tools give them: service links, .env files, pipes, folders, byte order marks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bridge.settings import sections
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.loading import foreign_variables, load_settings
from bridge.settings.sources import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, SECRETS_VARIABLE
from tests.support.pod import SERVICES, service_links

BOM = "\ufeff"
TOKEN = "a-token-of-the-tests"
NUMBERS = [
    f"{section}__{name}"
    for section, field in sections.Settings.model_fields.items()
    if section != "subscribers"
    for name, of_section in getattr(field.annotation, "model_fields", {}).items()
    if of_section.annotation is float
]


@pytest.fixture(autouse=True)
def no_other_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has in the environment must not stand in for what a test sets."""
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


def refused(config: Path | None = None) -> str:
    """Why these settings cannot be used, in one line."""
    with pytest.raises(InvalidSettingsError) as refusal:
        load_settings(config)
    reason = str(refusal.value)
    assert "\n" not in reason
    return reason


def test_service_links_of_a_platform_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the services are called; each variable with our prefix is named."""
    without = load_settings()
    links = service_links(*SERVICES)
    for name, value in links.items():
        monkeypatch.setenv(name, value)
    assert load_settings().model_dump() == without.model_dump()
    assert foreign_variables() == sorted(name for name in links if name.startswith("BRIDGE_"))


def test_a_setting_of_ours_is_read_beside_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """`BRIDGE_RECEIVER__PORT` is a setting where `BRIDGE_RECEIVER_PORT` is a link."""
    for name, value in service_links(*SERVICES).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BRIDGE_RECEIVER__PORT", "8123")
    assert load_settings().receiver.port == 8123


def test_variables_of_other_programs_are_named_and_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have our prefix by accident."""
    monkeypatch.setenv("BRIDGE_HOME", "/opt")
    monkeypatch.setenv("BRIDGE_LOGS_VOLUME", "data")
    load_settings()
    assert foreign_variables() == ["BRIDGE_HOME", "BRIDGE_LOGS_VOLUME"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BRIDGE_RECEIVER__PROT", "`bridge config show` lists them all"),
        ("BRIDGE_RECIEVER__PORT", "`bridge config show` lists them all"),
        ("BRIDGE_RECEIVER_PORT", "did you mean BRIDGE_RECEIVER__PORT?"),
        ("BRIDGE_RABBITMQ_URL", "did you mean BRIDGE_RABBITMQ__URL?"),
        ("BRIDGE_PROVIDER_API_TOKEN", "did you mean BRIDGE_PROVIDER__API_TOKEN?"),
        ("BRIDGE_PROVIDER_API_TOKEN_FILE", "did you mean BRIDGE_PROVIDER__API_TOKEN?"),
        ("BRIDGE_SECRET_DIR", "did you mean BRIDGE_SECRETS_DIR?"),
        ("BRIDGE_SECRETS_DIRECTORY", "did you mean BRIDGE_SECRETS_DIR?"),
        ("BRIDGE_CONFIG_FILE", "did you mean BRIDGE_CONFIG?"),
        ("BRIDGE_CONFG", "did you mean BRIDGE_CONFIG?"),
    ],
)
def test_a_misspelt_setting_is_no_foreign_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """A role that started with a default instead would do something else than it was told."""
    monkeypatch.setenv(name, "9000")
    assert refused() == f"{name}: there is no such setting; {said}"
    assert foreign_variables() == []


@pytest.mark.parametrize(
    "text",
    [
        "amqp://a:b@one/,amqp://two/",
        '["amqp://a:b@one/", "amqp://two/"]',
        '"amqp://a:b@one/","amqp://two/"',
        "'amqp://a:b@one/,amqp://two/'",
        """'["amqp://a:b@one/", "amqp://two/"]'""",
    ],
)
def test_a_list_is_written_with_commas_or_as_json_with_or_without_quotes(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """As .env files, Helm charts and people do."""
    monkeypatch.setenv("BRIDGE_RABBITMQ__URLS", text)
    assert [url.get_secret_value() for url in load_settings().rabbitmq.urls] == [
        "amqp://a:b@one/",
        "amqp://two/",
    ]


def test_every_list_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of texts, of names, of numbers; and the events of a subscriber as text."""
    monkeypatch.setenv("BRIDGE_RECEIVER__TOKENS", f'["{TOKEN}", "{TOKEN}-2"]')
    monkeypatch.setenv("BRIDGE_SUPPRESSION__EVENTS", '["complined", "hard_bounced"]')
    monkeypatch.setenv("BRIDGE_WORKER__RETRY_DELAYS", "[1, 2.5]")
    monkeypatch.setenv("BRIDGE_SUBSCRIBERS", """'[{"queue": "crm", "events": "opened, complined"}]'""")
    settings = load_settings()
    assert [token.get_secret_value() for token in settings.receiver.tokens] == [TOKEN, f"{TOKEN}-2"]
    assert settings.suppression.events == ("complained", "hard_bounced")
    assert settings.worker.retry_delays == (1.0, 2.5)
    assert settings.subscribers[0].events == ("opened", "complained")


@pytest.mark.parametrize("name", ["RECEIVER__TOKENS", "SUPPRESSION__EVENTS", "RABBITMQ__URLS"])
def test_a_list_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In a line without the values, which may be secrets."""
    monkeypatch.setenv(f"BRIDGE_{name}", "[uncommon, secret]")
    reason = refused()
    assert "is not a JSON list" in reason
    assert "uncommon" not in reason


def test_quotes_and_capitals_are_taken_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run --env-file` leaves quotes around a value."""
    monkeypatch.setenv("BRIDGE_PROVIDER__API_TOKEN", '"secret"')
    monkeypatch.setenv("BRIDGE_RECEIVER__PORT", "'8123'")
    monkeypatch.setenv("BRIDGE_LOGS__LEVEL", "INFO")
    monkeypatch.setenv("BRIDGE_LOGS__FORMAT", "JSON")
    monkeypatch.setenv("BRIDGE_RABBITMQ__DECLARE", "Never")
    settings = load_settings()
    assert settings.provider.api_token is not None
    assert settings.provider.api_token.get_secret_value() == "secret"
    assert (settings.receiver.port, settings.logs.level, settings.logs.format) == (8123, "info", "json")
    assert settings.rabbitmq.declare == "never"


def test_a_comma_in_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a port that is no number."""
    monkeypatch.setenv("BRIDGE_RABBITMQ__URL", "amqp://a:uncommon,secret@host/")
    reason = refused()
    assert reason.startswith("rabbitmq.urls: commas separate the URLs")
    assert "%2C" in reason
    assert "uncommon" not in reason
    monkeypatch.setenv("BRIDGE_RABBITMQ__URL", "amqp://a:uncommon%2Csecret@host/")
    assert len(load_settings().rabbitmq.urls) == 1


@pytest.mark.parametrize("name", ["SPOOL__DIRECTORY", "HEALTH__HOST", "RECEIVER__HOST"])
@pytest.mark.parametrize("value", ["", " ", '""'])
def test_an_empty_place_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """It would be the folder that we are in, or every address of the machine."""
    monkeypatch.setenv(f"BRIDGE_{name}", value)
    assert refused() == f"{name.replace('__', '.').lower()}: is empty; remove it to use the default"


def test_an_ipv6_host_may_have_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a URL; what cannot be a host is refused."""
    monkeypatch.setenv("BRIDGE_HEALTH__HOST", "[::1]")
    assert load_settings().health.host == "::1"
    monkeypatch.setenv("BRIDGE_HEALTH__HOST", "http://[::1]")
    assert refused().startswith("health.host: not a host name or an address")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300"])
@pytest.mark.parametrize("name", [*NUMBERS, "worker__retry_delays"])
def test_a_number_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Every setting that may have a fraction: it would end the role, or a wait would never end."""
    monkeypatch.setenv(f"BRIDGE_{name.upper()}", value)
    assert refused().startswith(name.replace("__", "."))


def test_there_are_such_numbers() -> None:
    """The list above is made from the settings."""
    assert {"provider__rate", "provider__unknown_grace", "worker__give_up_after"} <= set(NUMBERS)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' editors write one: settings file, secret, and file that a variable names."""
    config = tmp_path / "bridge.toml"
    config.write_text(f"{BOM}[receiver]\nport = 5\n")
    (tmp_path / "token").write_text(f"{BOM}secret\n")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "receiver__tokens").write_text(f"{BOM}{TOKEN}\n")
    monkeypatch.setenv("BRIDGE_PROVIDER__API_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv(SECRETS_VARIABLE, str(secrets))
    settings = load_settings(config)
    assert settings.receiver.port == 5
    assert settings.provider.api_token is not None
    assert settings.provider.api_token.get_secret_value() == "secret"
    assert settings.receiver.tokens[0].get_secret_value() == TOKEN


def test_the_settings_file_may_be_a_pipe() -> None:
    """`--config <(sops -d bridge.yaml)`."""
    with subprocess.Popen(["/bin/echo", "[receiver]\nport = 5"], stdout=subprocess.PIPE) as decrypting:
        assert decrypting.stdout is not None
        assert load_settings(Path(f"/dev/fd/{decrypting.stdout.fileno()}")).receiver.port == 5


def test_a_folder_in_the_place_of_a_secret_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker makes one where the file to mount is missing: in the folder of secrets, and under a name of its own."""
    secrets = tmp_path / "secrets"
    (secrets / "provider__api_token").mkdir(parents=True)
    monkeypatch.setenv("BRIDGE_PROVIDER__API_TOKEN_FILE", str(secrets))
    assert refused().startswith(f"BRIDGE_PROVIDER__API_TOKEN_FILE: {secrets} is a folder, not a file; Docker")
    monkeypatch.delenv("BRIDGE_PROVIDER__API_TOKEN_FILE")
    monkeypatch.setenv(SECRETS_VARIABLE, str(secrets))
    assert refused().startswith(
        f"BRIDGE_SECRETS_DIR: {secrets}/provider__api_token is a folder, not a file; Docker"
    )


@pytest.mark.parametrize("section", ["rabbitmq", "subscribers"])
def test_an_empty_folder_in_the_place_of_a_section_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    """A section may be one secret, too, and an empty folder is what Docker makes of one that is missing."""
    (tmp_path / section).mkdir()
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path))
    assert refused().startswith(f"BRIDGE_SECRETS_DIR: {tmp_path}/{section} is a folder, not a file; Docker")
    (tmp_path / section / "of-another").touch()
    load_settings()
    (tmp_path / section / "of-another").unlink()
    (tmp_path / section).rmdir()
    (tmp_path / section).symlink_to(tmp_path / "nowhere")
    assert refused().endswith(f"{section}: No such file or directory")


def test_a_folder_in_the_place_of_the_settings_file_is_refused(tmp_path: Path) -> None:
    """The same with the settings file."""
    assert refused(tmp_path) == (
        f"cannot read the settings file {tmp_path}: Is a directory; check --config or BRIDGE_CONFIG"
    )


def test_secrets_may_be_links_that_lead_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes mounts each as a link, and its hidden folders are no secrets; one that leads nowhere is told."""
    (tmp_path / "elsewhere").write_text("secret")
    secrets = tmp_path / "secrets"
    (secrets / "..data").mkdir(parents=True)
    (secrets / "kubernetes.io").mkdir()
    (secrets / "rabbitmq" / "of-another").mkdir(parents=True)
    (secrets / "provider__api_token").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv(SECRETS_VARIABLE, str(secrets))
    token = load_settings().provider.api_token
    assert token is not None
    assert token.get_secret_value() == "secret"
    (secrets / "provider__api_token").unlink()
    (secrets / "provider__api_token").symlink_to(tmp_path / "nowhere")
    assert refused().endswith("secrets/provider__api_token: No such file or directory")


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is how Compose writes one that is not set."""
    for name in (
        "BRIDGE_PROVIDER__API_TOKEN_FILE",
        CONFIG_VARIABLE,
        SECRETS_VARIABLE,
    ):
        monkeypatch.setenv(name, "")
    assert load_settings().provider.api_token is None


def test_the_file_that_holds_a_setting_alone_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be read again. What a variable itself or an option gives is in no file; the named one wins over the folder."""
    named, folder = tmp_path / "tokens", tmp_path / "secrets"
    folder.mkdir()
    for file in (named, folder / "receiver__tokens", folder / "rabbitmq__url"):
        file.write_text("amqp://a-broker" if "url" in file.name else TOKEN)
    monkeypatch.setenv("BRIDGE_SECRETS_DIR", str(folder))
    assert load_settings().origin.files.get("receiver.tokens") == folder / "receiver__tokens"
    assert load_settings().origin.files.get("rabbitmq.urls") == folder / "rabbitmq__url"
    monkeypatch.setenv("BRIDGE_RECEIVER__TOKENS_FILE", str(named))
    assert load_settings().origin.files.get("receiver.tokens") == named
    assert load_settings().picklable().origin.files["receiver.tokens"] == named
    assert (
        load_settings(overrides={"receiver": {"tokens": [TOKEN]}}).origin.files.get("receiver.tokens") is None
    )
    monkeypatch.setenv("BRIDGE_RECEIVER__TOKENS", TOKEN)
    assert load_settings().origin.files.get("receiver.tokens") is None
    assert load_settings().origin.files.get("receiver.port") is None


def test_the_fingerprint_of_a_settings_file_tells_nothing_of_its_secrets(tmp_path: Path) -> None:
    """What is set counts; comments, order and secrets do not."""
    file = tmp_path / "bridge.toml"
    texts = [
        f'[receiver]\nport = 1\ntokens = ["{TOKEN}"]\n[spool]\nmin_free_bytes = 5\n',
        f'# a remark\n[spool]\nmin_free_bytes = 5\n[receiver]\ntokens = ["{TOKEN}-and-more"]\nport = 1\n',
        f'[receiver]\nport = 2\ntokens = ["{TOKEN}"]\n[spool]\nmin_free_bytes = 5\n',
        '[rabbitmq]\nurls = ["amqp://one:two@three"]\n[provider]\napi_token = "a"\n[suppression]\ndatabase_url = "sqlite:///x"\n',
        "[rabbitmq]\n[provider]\n[suppression]\n",
    ]
    prints = []
    for text in texts:
        file.write_text(text)
        prints.append(load_settings(file).origin.fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert prints[3] == prints[4]
    assert load_settings().origin.config is None
