"""Where settings are given: in variables, in files that variables name, in a folder of secrets, in a file of their own."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bridge.settings.errors import InvalidSettingsError
from bridge.text import collapse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Given = TypeVar("Given")

ENVIRONMENT_PREFIX: Final = "BRIDGE_"
CONFIG_VARIABLE: Final = "BRIDGE_CONFIG"
SECRETS_VARIABLE: Final = "BRIDGE_SECRETS_DIR"
_FILE: Final = "_FILE"
_DIVIDER: Final = "__"
_SHORT_NAMES: Final = {"rabbitmq__url": "rabbitmq__urls"}
"""Short names of settings; the full name wins if both are given."""

_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
"""The ends of the variables that Kubernetes and Docker's links set for each service."""
_LINKED_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")
"""The value of `..._PORT` in that case, such as `tcp://10.0.0.7:8080`."""
_LOCATION_PREFIXES: Final = ("BRIDGE_CONFIG", "BRIDGE_SECRET")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings were read from."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Setting -> the file that holds only it, such as that of `receiver.tokens`: it can be read again."""
    config: Path | None = None
    """The settings file."""
    fingerprint: str = ""
    """A hash of what the settings file sets, without secrets, comments and order."""


class TextSources:
    """The texts of all sources, by the lower-case name `section__name`."""

    def __init__(
        self, environment: Mapping[str, str], *, names: Collection[str], sections: Collection[str]
    ) -> None:
        """Take the environment.

        Args:
            environment: all variables.
            names: `section__name` of each setting.
            sections: names of the sections, which may be given as a whole, as JSON.
        """
        self._environment = environment
        self._names = frozenset({*names, *_SHORT_NAMES})
        self._sections = frozenset(sections)

    def config(self, given: Path | None) -> Path | None:
        """The settings file: the one given, or the one that the environment names."""
        named = self._environment.get(CONFIG_VARIABLE, "")
        if given is not None and str(given) != named:
            return given
        return Path(unquoted(named)) if named.strip() else None

    def of_variables(self) -> dict[str, str]:
        """The texts of the environment. A variable wins over a file that another variable names.

        Raises:
            InvalidSettingsError: a variable is a misspelt setting, or names a file that cannot be read.
        """
        plain: dict[str, str] = {}
        named: dict[str, str] = {}
        for variable, value in self._ours():
            key = variable.upper().removeprefix(ENVIRONMENT_PREFIX).lower()
            if key in self._names or key in self._sections:
                plain[key] = unquoted(value)
            elif self._names_a_file(key):
                if value.strip():
                    named[key.removesuffix(_FILE.lower())] = read(variable, Path(unquoted(value)))
            elif not self._is_foreign(variable, value):
                raise InvalidSettingsError(self._misspelt(variable))
        return _with_full_names(named) | _with_full_names(plain)

    def of_secrets(self) -> dict[str, str]:
        """The texts of the folder of secrets: files named `section__name`, or like a section. Others are ignored.

        Raises:
            InvalidSettingsError: the folder, or a file in it, cannot be read.
        """
        return _with_full_names({key: read(SECRETS_VARIABLE, path) for key, path in self._secrets().items()})

    def files(self) -> dict[str, Path]:
        """Setting -> the file that holds it alone, and nothing else. One that a variable itself gives has none."""
        named = {
            key.removesuffix(_FILE.lower()): Path(unquoted(value))
            for variable, value in self._ours()
            if self._names_a_file(key := variable.upper().removeprefix(ENVIRONMENT_PREFIX).lower())
            and value.strip()
        }
        plain = {variable.upper().removeprefix(ENVIRONMENT_PREFIX).lower() for variable, _ in self._ours()}
        given = _with_full_names(dict.fromkeys(plain & self._names, Path()))
        found = _with_full_names(self._secrets()) | _with_full_names(named)
        return {key: path for key, path in found.items() if key in self._names and key not in given}

    def foreign(self) -> list[str]:
        """Variables with our prefix that are not settings, such as a platform's for a service named `bridge`."""
        return sorted(variable for variable, value in self._ours() if self._is_foreign(variable, value))

    def _secrets(self) -> dict[str, Path]:
        named = unquoted(self._environment.get(SECRETS_VARIABLE, ""))
        if not named:
            return {}
        folder = Path(named)
        try:
            paths = sorted(path for path in folder.iterdir() if self._is_a_secret_of_ours(path))
        except OSError as error:
            raise InvalidSettingsError(
                f"{SECRETS_VARIABLE}: cannot read the folder {folder}: {error.strerror}"
            ) from None
        return {path.name.lower(): path for path in paths}

    def _ours(self) -> Iterator[tuple[str, str]]:
        for variable, value in self._environment.items():
            if variable.upper().startswith(ENVIRONMENT_PREFIX) and variable.upper() not in {
                CONFIG_VARIABLE,
                SECRETS_VARIABLE,
            }:
                yield variable, value

    def _names_a_file(self, key: str) -> bool:
        return key.endswith(_FILE.lower()) and key.removesuffix(_FILE.lower()) in self._names

    def _is_foreign(self, variable: str, value: str) -> bool:
        """Whether a platform or another program has set it. Other variables are settings, or misspelt ones."""
        name = variable.upper()
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key in self._names or key in self._sections or self._names_a_file(key):
            return False
        if _SERVICE_LINK.search(name) or (name.endswith("_PORT") and _LINKED_ADDRESS.match(value)):
            return True
        return _DIVIDER not in key and not self._meant(name)

    def _meant(self, name: str) -> str:
        """The setting's variable that a name without `__` probably means; empty if there is none."""
        if name.startswith(_LOCATION_PREFIXES):
            return SECRETS_VARIABLE if name.startswith(_LOCATION_PREFIXES[1]) else CONFIG_VARIABLE
        for key in self._names:
            variable = f"{ENVIRONMENT_PREFIX}{key}".upper()
            if name.replace("_", "") in {_squeezed(variable), _squeezed(variable + _FILE)}:
                return variable
        return next(
            iter(difflib.get_close_matches(name, [CONFIG_VARIABLE, SECRETS_VARIABLE], n=1, cutoff=0.9)), ""
        )

    def _misspelt(self, variable: str) -> str:
        meant = (
            ""
            if _DIVIDER in variable.upper().removeprefix(ENVIRONMENT_PREFIX)
            else self._meant(variable.upper())
        )
        hint = f"; did you mean {meant}?" if meant else ""
        return f"{variable}: there is no such setting{hint or '; `bridge config show` lists them all'}"

    def _is_a_secret_of_ours(self, path: Path) -> bool:
        """A folder with the name of a section may be anything, unless it is empty, as Docker makes one.

        What is called like a setting is meant as one.
        """
        section, divider, _ = path.name.lower().partition(_DIVIDER)
        return section in self._sections and (bool(divider) or not path.is_dir() or _is_empty(path))


def read(what: str, path: Path) -> str:
    """The text of a file, without byte order mark and surrounding white space.

    Args:
        what: the file's purpose, for error messages.
        path: of a file or a pipe.

    Raises:
        InvalidSettingsError: it cannot be read as UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig").strip()
    except IsADirectoryError:
        raise InvalidSettingsError(
            f"{what}: {path} is a folder, not a file; Docker makes one where the file to mount is missing"
        ) from None
    except OSError as error:
        raise InvalidSettingsError(f"{what}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSettingsError(f"{what}: {path} is not UTF-8 text") from None


def read_settings(path: Path | None) -> dict[str, Any]:
    """The settings file, which may be a pipe; nothing without one.

    Raises:
        InvalidSettingsError: it cannot be read, or is no TOML.
    """
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise InvalidSettingsError(
            f"{path}: there is no such settings file; check --config or {CONFIG_VARIABLE}"
        ) from None
    except OSError as error:
        raise InvalidSettingsError(
            f"cannot read the settings file {path}: {error.strerror}; check --config or {CONFIG_VARIABLE}"
        ) from None
    except tomllib.TOMLDecodeError as no_toml:
        raise InvalidSettingsError(collapse(f"{path}: {no_toml}")) from None
    except UnicodeDecodeError:
        raise InvalidSettingsError(f"{path} is not UTF-8 text") from None


def fingerprint(document: Mapping[str, Any], *, without: Collection[str]) -> str:
    """Tells one settings file from another, and nothing of a secret.

    Args:
        document: what stands in the file.
        without: names of settings, `section.name`, that are left out.
    """
    shown = {
        section: {name: value for name, value in given.items() if f"{section}.{name}" not in without}
        if isinstance(given, dict)
        else given
        for section, given in document.items()
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True, default=str).encode()).hexdigest()[:12]


def unquoted(text: str) -> str:
    """The text without the quotation marks that some readers of .env files keep."""
    text = text.strip()
    mark, inner = text[:1], text[1:-1]
    is_quoted = len(text) > 1 and mark in {'"', "'"} and text.endswith(mark) and mark not in inner
    return inner.strip() if is_quoted else text


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:
        return False


def _squeezed(name: str) -> str:
    return name.replace("_", "")


def _with_full_names(texts: dict[str, Given]) -> dict[str, Given]:
    full = {key: text for key, text in texts.items() if key not in _SHORT_NAMES}
    for short, name in _SHORT_NAMES.items():
        if short in texts:
            full.setdefault(name, texts[short])
    return full
