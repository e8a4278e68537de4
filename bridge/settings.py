"""Every knob of every role, one class a section. `config/bridge.toml` explains each for operators."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)
from yarl import URL

from bridge import events

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "BRIDGE_"
CONFIG_VARIABLE = "BRIDGE_CONFIG"
SECRETS_VARIABLE = "BRIDGE_SECRETS_DIR"
_NOT_SETTINGS = frozenset({CONFIG_VARIABLE, SECRETS_VARIABLE})
_FILE_SUFFIX = "_FILE"
_BROKER_URL = "BRIDGE_RABBITMQ__URL"

PROVIDER_URL = "https://api.msndr.net/v1"
PROVIDER_RESERVE_URL = "https://api-reserve.msndr.net/v1"
"""The provider's documented alternative."""

_CHANGES_OF_THE_LIST = frozenset({"added", "updated", "removed", "expired"})
"""What other services follow on the exchange `suppression.changes`; `expired` is one that a reader may expect there."""

SHORTEST_TOKEN = 16
"""Characters. The token is the only proof that a POST comes from the provider."""


class InvalidSettingsError(ValueError):
    """The settings cannot be used. Its message is one line that names the key and says what is wrong."""


def _split(value: Any) -> Any:
    """A list may be written with commas, so that it fits an environment variable or a secret file."""
    if isinstance(value, str):
        return [item for item in (part.strip() for part in value.split(",")) if item]
    return value


def _broker_url(secret: SecretStr) -> SecretStr:
    url = URL(secret.get_secret_value())
    if url.scheme not in {"amqp", "amqps"} or not url.host:
        raise ValueError("not a URL of the form amqp://user:password@host:5672/vhost (or amqps://)")
    return secret


def _token(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(rf"[A-Za-z0-9._~-]{{{SHORTEST_TOKEN},}}", secret.get_secret_value()):
        raise ValueError(
            f"a token is {SHORTEST_TOKEN} or more letters, digits or . _ ~ - (it is part of a URL)"
        )
    return secret


def _http_url(text: str) -> str:
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.host or url.user or url.password:
        raise ValueError("not a URL of the form https://host/path (without user and password)")
    return text.rstrip("/")


def _blank_is_none(value: Any) -> Any:
    """An empty variable is how Compose writes one that is not set."""
    return None if isinstance(value, str) and not value.strip() else value


def _api_token(secret: SecretStr) -> SecretStr:
    token = secret.get_secret_value()
    if not (token.isascii() and token.isprintable() and token and " " not in token):
        raise ValueError("a token of the provider is printable ASCII without spaces")
    return secret


def _split_names(value: Any) -> Any:
    """As `_split`, with each name in our spelling; what is no name is left for the type to refuse."""
    items = _split(value)
    if isinstance(items, list | tuple):
        return [events.canonical_name(item) if isinstance(item, str) else item for item in items]
    return items


def _event_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(events.canonical_name(name) for name in names))


HttpUrl = Annotated[str, AfterValidator(_http_url)]
ApiToken = Annotated[SecretStr, AfterValidator(_api_token)]
BrokerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0.01, le=7 * 86_400)]
Port = Annotated[int, Field(ge=0, le=65535)]
SuppressingEvent = Literal["hard_bounced", "complained", "unsubscribed"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RabbitMQ(Section):
    urls: Annotated[tuple[BrokerUrl, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(SecretStr("amqp://guest:guest@127.0.0.1:5672/"),), min_length=1
    )
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$", max_length=100)
    declare: Literal["auto", "always", "never"] = "auto"
    heartbeat: int = Field(default=10, ge=1, le=600)
    connect_timeout: Seconds = 3.0
    reconnect_max: Seconds = 2.0
    archive_max_age: str = Field(default="7D", pattern=r"^[0-9]+[YMDhms]$")
    archive_max_bytes: int = Field(default=2 * 1024**3, ge=1024**2)
    management_url: Annotated[HttpUrl | None, BeforeValidator(_blank_is_none)] = None


class Receiver(Section):
    host: str = "0.0.0.0"  # noqa: S104 -- a webhook is called from outside; the container or firewall narrows it
    port: Port = 8080
    tokens: Annotated[tuple[Token, ...], NoDecode, BeforeValidator(_split)] = ()
    public_url: Annotated[HttpUrl | None, BeforeValidator(_blank_is_none)] = None
    confirm_wait: Seconds = 0.25
    max_in_flight: int = Field(default=10_000, ge=1)
    head_timeout: Seconds = 15.0
    body_timeout: Seconds = 10.0
    retry_after: int = Field(default=5, ge=1)
    drain_timeout: Seconds = 5.0
    processes: int = Field(default=1, ge=1, le=64)


class Spool(Section):
    directory: Path = Path("spool")
    max_bytes: int = Field(default=1024**3, ge=1024**2)
    min_free_bytes: int = Field(default=64 * 1024**2, ge=0)


class Provider(Section):
    base_url: HttpUrl = PROVIDER_URL
    reserve_url: HttpUrl | Literal[""] | None = None
    api_token: Annotated[ApiToken | None, BeforeValidator(_blank_is_none)] = None
    timeout: Seconds = 10.0
    rate: float = Field(default=10.0, gt=0)
    attempts: int = Field(default=4, ge=1)
    backoff_max: Seconds = 10.0
    retry_after_max: Seconds = 60.0
    unknown_grace: float = Field(default=300.0, ge=0)

    @property
    def fallback_url(self) -> str | None:
        """The reserve, if there is one: the provider's own only ever stands in for the provider itself."""
        if self.reserve_url is None:
            return PROVIDER_RESERVE_URL if self.base_url == PROVIDER_URL else None
        return self.reserve_url or None


class Worker(Section):
    prefetch: int = Field(default=500, ge=1, le=65535)
    batch_size: int = Field(default=100, ge=1)
    linger: Seconds = 0.02
    pause_max: Seconds = 30.0
    breaker_failures: int = Field(default=5, ge=1)
    retry_delays: Annotated[tuple[Delay, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(30.0, 300.0, 3600.0), min_length=1
    )
    give_up_after: Seconds = 172_800.0
    stuck_after: Seconds = 300.0
    take_over_after: Annotated[Seconds, Field(ge=1.0)] = 10.0
    drain_timeout: Seconds = 5.0


class Suppression(Section):
    database_url: SecretStr = SecretStr("sqlite+aiosqlite:///suppressions.sqlite3")
    events: Annotated[
        tuple[SuppressingEvent, ...], NoDecode, BeforeValidator(_split_names), AfterValidator(_event_names)
    ] = Field(default=("hard_bounced", "complained"), min_length=1)


class Health(Section):
    host: str = "127.0.0.1"
    port: Port | None = None


class Logs(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    mask_addresses: bool = True


def _queue_of_another(name: str) -> str:
    """Our own names are `email.…`, `suppression` and `suppression.…`: see `bridge.broker.topology`."""
    if name == "suppression" or name.startswith(("suppression.", "email.")):
        raise ValueError(f"'{name}' is a name of the bridge's own; choose another")
    return name


def _no_changes_of_the_list(names: tuple[str, ...]) -> tuple[str, ...]:
    """A queue of events that is bound to one of these would wait for what never comes."""
    if of_the_list := [name for name in names if name.lower() in _CHANGES_OF_THE_LIST]:
        raise ValueError(
            f"'{of_the_list[0]}' is no event but a change of the suppression list: for those bind a queue of your "
            "own to the exchange 'suppression.changes' (rabbitmq.prefix in front)"
        )
    return names


class Subscriber(Section):
    queue: Annotated[str, AfterValidator(_queue_of_another)] = Field(
        min_length=1, max_length=150, pattern=r"^[A-Za-z0-9._-]+$"
    )
    events: Annotated[
        tuple[str, ...], AfterValidator(_event_names), AfterValidator(_no_changes_of_the_list)
    ] = Field(min_length=1)


def _each_once(subscribers: tuple[Subscriber, ...]) -> tuple[Subscriber, ...]:
    names = [subscriber.queue for subscriber in subscribers]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"the queue '{twice[0]}' is named twice; give all its events in one")
    return subscribers


class Settings(BaseSettings):
    """All sections. Build one with `load`, which knows the order of the sources."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    rabbitmq: RabbitMQ = RabbitMQ()
    receiver: Receiver = Receiver()
    spool: Spool = Spool()
    provider: Provider = Provider()
    worker: Worker = Worker()
    suppression: Suppression = Suppression()
    health: Health = Health()
    logs: Logs = Logs()
    subscribers: Annotated[tuple[Subscriber, ...], AfterValidator(_each_once)] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- ours reads `*_FILE` too
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- there is no .env here
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            _Environment(settings_cls),
            NestedSecretsSettingsSource(file_secret_settings, secrets_dir_missing="error", secrets_prefix=""),
            TomlConfigSettingsSource(settings_cls),
        )


class _Environment(EnvSettingsSource):
    """Variables, and files that variables name.

    `BRIDGE_PROVIDER__API_TOKEN_FILE=/run/secrets/token` stands for the content of that file; the variable
    itself, where it is set too, wins. `BRIDGE_RABBITMQ__URL` is another spelling of `..._URLS`.
    """

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables = dict(super()._load_env_vars())
        for name, path in _file_variables().items():
            del variables[name.lower()]
            variables.setdefault(name.lower().removesuffix(_FILE_SUFFIX.lower()), _read_secret(name, path))
        if (url := variables.pop(_BROKER_URL.lower(), None)) is not None:
            variables.setdefault(f"{_BROKER_URL}S".lower(), url)
        return variables


class Knob(NamedTuple):
    """One setting, for the command line's help and for error messages."""

    key: str
    variable: str


def knobs() -> list[Knob]:
    """Every `section.name` and the environment variable that sets it."""
    return [
        Knob(f"{section}.{name}", f"{ENVIRONMENT_PREFIX}{section}__{name}".upper())
        for section, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for name in field.annotation.model_fields
    ]


def load(config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Read the settings: overrides (command line), environment, secrets, file, defaults, in that order.

    Args:
        config: the TOML file; without it the one named by `BRIDGE_CONFIG`, if any.
        overrides: section -> name -> value, from the command line.

    Raises:
        InvalidSettingsError: an unknown key, a bad value, or a file that cannot be read.
    """
    path = config or (Path(named) if (named := os.environ.get(CONFIG_VARIABLE)) else None)
    if path is not None and not path.is_file():
        raise InvalidSettingsError(
            f"{path}: there is no such settings file; check --config or {CONFIG_VARIABLE}"
        )
    _refuse_unknown_variables()

    class Sourced(Settings):
        model_config = SettingsConfigDict(
            toml_file=path, secrets_dir=os.environ.get(SECRETS_VARIABLE) or None
        )

    try:
        return Sourced(**(overrides or {}))  # type: ignore[arg-type]  # sections are validated by pydantic
    except ValidationError as invalid:
        raise InvalidSettingsError(_first_line(invalid)) from None
    except InvalidSettingsError:
        raise
    except SettingsError as unreadable:
        raise InvalidSettingsError(_one_line(_unreadable(unreadable))) from None
    except tomllib.TOMLDecodeError as no_toml:
        raise InvalidSettingsError(_one_line(f"{path}: {no_toml}")) from None
    except UnicodeDecodeError:
        sources = " or in ".join(str(place) for place in (path, os.environ.get(SECRETS_VARIABLE)) if place)
        raise InvalidSettingsError(f"what stands in {sources} is not UTF-8 text") from None
    except OSError as error:
        raise InvalidSettingsError(f"cannot read {error.filename}: {error.strerror}") from None


def _unreadable(error: SettingsError) -> str:
    """A folder of secrets, or a whole section as JSON, that pydantic-settings cannot read."""
    section = re.search(r'field "(\w+)"', str(error))
    if section is None:
        return f"{SECRETS_VARIABLE}: {error}"
    return (
        f"{section[1]}: given as a whole (as {ENVIRONMENT_PREFIX}{section[1].upper()}, or in a file of "
        f"{SECRETS_VARIABLE}) it must be JSON"
    )


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise InvalidSettingsError(f"{variable}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSettingsError(f"{variable}: {path} is not UTF-8 text") from None


def _known_variables() -> set[str]:
    return {knob.variable for knob in knobs()} | {_BROKER_URL}


def _file_variables() -> dict[str, str]:
    known = _known_variables()
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper().endswith(_FILE_SUFFIX) and name.upper().removesuffix(_FILE_SUFFIX) in known
    }


def _refuse_unknown_variables() -> None:
    known = _known_variables()
    sections = {name.upper() for name in Settings.model_fields}
    for name in os.environ:
        upper = name.upper()
        if not upper.startswith(ENVIRONMENT_PREFIX) or upper in _NOT_SETTINGS:
            continue
        key = upper.removeprefix(ENVIRONMENT_PREFIX)
        if upper in known or upper.removesuffix(_FILE_SUFFIX) in known or key in sections:
            continue
        raise InvalidSettingsError(f"{name}: there is no such setting; `bridge config show` lists them all")


def _first_line(invalid: ValidationError) -> str:
    """Pydantic's first complaint as one line, without the value: it may be a secret."""
    error = invalid.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"])
    message = "there is no such setting" if error["type"] == "extra_forbidden" else error["msg"]
    return _one_line(f"{key}: {message.removeprefix('Value error, ')}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
