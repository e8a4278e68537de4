"""Every setting of every role, one class for each section. `config/bridge.toml` explains each for operators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from yarl import URL

from bridge.settings.api_section import Api
from bridge.settings.console_section import Console
from bridge.settings.list_sections import Retention, Suppression
from bridge.settings.section import Section
from bridge.settings.sources import ENVIRONMENT_PREFIX, Origin
from bridge.settings.subscribers import Subscriber, without_conflicts
from bridge.settings.values import (
    MAX_SECONDS,
    ApiToken,
    BrokerUrl,
    Delay,
    Host,
    HttpUrl,
    Level,
    Port,
    Seconds,
    Tokens,
    blank_is_none,
    lower,
    not_blank,
    not_reserved,
    split,
    split_urls,
)

PROVIDER_URL = "https://api.msndr.net/v1"
PROVIDER_RESERVE_URL = "https://api-reserve.msndr.net/v1"
"""The provider's documented alternative."""

FastPath = Annotated[Literal["auto", "http", "amqp", "off"], BeforeValidator(lower)]


class RabbitMQ(Section):
    """`[rabbitmq]`: where RabbitMQ is, the prefix of our names there, and the limits of the archive (age, bytes)."""

    urls: Annotated[tuple[BrokerUrl, ...], NoDecode, BeforeValidator(split_urls)] = Field(
        default=(SecretStr("amqp://guest:guest@127.0.0.1:5672/"),), min_length=1
    )
    prefix: Annotated[str, AfterValidator(not_reserved)] = Field(
        default="", pattern=r"^[A-Za-z0-9._-]*$", max_length=100
    )
    declare: Annotated[Literal["auto", "always", "never"], BeforeValidator(lower)] = "auto"
    heartbeat: int = Field(default=10, ge=1, le=600)
    connect_timeout: Seconds = 3.0
    reconnect_max: Seconds = 2.0
    archive_max_age: str = Field(default="7D", pattern=r"^[0-9]+[YMDhms]$")
    archive_max_bytes: int = Field(default=2 * 1024**3, ge=1024**2, lt=2**63)
    management_url: Annotated[HttpUrl | None, BeforeValidator(blank_is_none)] = None

    @property
    def virtual_host(self) -> str:
        """The virtual host of the first URL, in which a slash is written as `%2F`."""
        path = URL(self.urls[0].get_secret_value()).path
        return path.removeprefix("/").replace("%2F", "/") or "/"


class Receiver(Section):
    """`[receiver]`: where the webhook is served, its tokens, and the limits of a request."""

    host: Host = "0.0.0.0"  # noqa: S104 -- a webhook is called from outside; the container or firewall narrows it
    port: Port = 8080
    tokens: Annotated[Tokens, NoDecode] = ()
    public_url: Annotated[HttpUrl | None, BeforeValidator(blank_is_none)] = None
    confirm_wait: Seconds = 0.25
    max_in_flight: int = Field(default=10_000, ge=1)
    head_timeout: Seconds = 15.0
    body_timeout: Seconds = 10.0
    retry_after: int = Field(default=5, ge=1)
    drain_timeout: Seconds = 5.0
    processes: int = Field(default=1, ge=1, le=64)


class Spool(Section):
    """`[spool]`: the folder of the local queue, and how many bytes it may take and must leave free."""

    directory: Annotated[Path, BeforeValidator(not_blank)] = Path("spool")
    max_bytes: int = Field(default=1024**3, ge=1024**2)
    min_free_bytes: int = Field(default=64 * 1024**2, ge=0)


class Provider(Section):
    """`[provider]`: the API of the provider, its rate (calls a second), and how often a call is tried."""

    base_url: HttpUrl = PROVIDER_URL
    reserve_url: HttpUrl | Literal[""] | None = None
    api_token: Annotated[ApiToken | None, BeforeValidator(blank_is_none)] = None
    timeout: Seconds = 10.0
    rate: float = Field(default=10.0, ge=0.001, le=100_000, allow_inf_nan=False)
    attempts: int = Field(default=4, ge=1)
    backoff_max: Seconds = 10.0
    retry_after_max: Seconds = 60.0
    unknown_grace: float = Field(default=300.0, ge=0, le=MAX_SECONDS, allow_inf_nan=False)

    @property
    def fallback_url(self) -> str | None:
        """The reserve URL, if there is one. The provider's own is used only with the provider's own `base_url`."""
        if self.reserve_url is None:
            return PROVIDER_RESERVE_URL if self.base_url == PROVIDER_URL else None
        return self.reserve_url or None


class Worker(Section):
    """`[worker]`: batches, the delays between attempts, and when the worker pauses, gives a message up, or counts as stuck."""

    prefetch: int = Field(default=500, ge=1, le=65535)
    batch_size: int = Field(default=250, ge=1)
    linger: Seconds = 0.02
    pause_max: Seconds = 30.0
    breaker_failures: int = Field(default=5, ge=1)
    retry_delays: Annotated[tuple[Delay, ...], NoDecode, BeforeValidator(split)] = Field(
        default=(30.0, 300.0, 3600.0), min_length=1
    )
    give_up_after: Seconds = 172_800.0
    stuck_after: Seconds = 300.0
    take_over_after: Annotated[Seconds, Field(ge=1.0, le=86_400)] = 10.0
    drain_timeout: Seconds = 5.0


class Health(Section):
    """`[health]`: where a role serves its health and metrics, and where `status` and `doctor` find the roles."""

    host: Host = "127.0.0.1"
    port: Port | None = None
    roles: Annotated[tuple[HttpUrl, ...], NoDecode, BeforeValidator(split)] = ()


class Logs(Section):
    """`[logs]`: level and format of the log, and whether addresses in it are masked."""

    level: Level = "info"
    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(lower)] = "auto"
    mask_addresses: bool = True


class Tracing(Section):
    """`[tracing]`: whether traces are recorded, what share of them, and to which OTLP receiver they are sent."""

    enabled: bool = False
    sampling: float = Field(default=0.01, ge=0, le=1, allow_inf_nan=False)
    endpoint: Annotated[HttpUrl | None, BeforeValidator(blank_is_none)] = None
    service_name: str = Field(default="bridge", pattern=r"^[A-Za-z0-9._-]+$", max_length=100)


class Development(Section):
    """`[development]`: for those who work on the bridge."""

    fast_path: FastPath = "auto"


class Settings(BaseSettings):
    """All sections. Make one with `load_settings`, which knows the order of the sources."""

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
    retention: Retention = Retention()
    api: Api = Api()
    console: Console = Console()
    health: Health = Health()
    logs: Logs = Logs()
    tracing: Tracing = Tracing()
    development: Development = Development()
    subscribers: Annotated[tuple[Subscriber, ...], AfterValidator(without_conflicts)] = ()
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @model_validator(mode="after")
    def _log_keeps_no_addresses(self) -> Self:
        if self.suppression.privacy == "hmac" and not self.logs.mask_addresses:
            raise ValueError(
                "logs.mask_addresses = false would write addresses that suppression.privacy = hmac keeps nowhere"
            )
        return self

    @property
    def origin(self) -> Origin:
        """Where they were read from."""
        return self._origin

    def picklable(self, **replaced_sections: Section) -> Settings:
        """A copy with these sections replaced, that can be pickled: what `load_settings` returns cannot."""
        own = {name: getattr(self, name) for name in Settings.model_fields}
        made = Settings.model_construct(**own | replaced_sections)
        made._origin = self._origin  # noqa: SLF001 -- of our own class
        return made


class SettingName(NamedTuple):
    """The names of one setting: its key, and its environment variable."""

    key: str
    variable: str


def setting_names() -> list[SettingName]:
    """The names of every setting."""
    return [
        SettingName(f"{section}.{name}", f"{ENVIRONMENT_PREFIX}{section}__{name}".upper())
        for section, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for name in field.annotation.model_fields
    ]
