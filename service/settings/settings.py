"""All settings of the service: `CLEAR_*` variables, frozen, checked at start."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError
from service.settings.access import AccessSettings
from service.settings.limits import BatchSettings, ConnectionSettings, DeadlineSettings
from service.settings.operation import (
    ChangeSettings,
    ReloadSettings,
    ShutdownSettings,
    TelemetrySettings,
)
from service.settings.retrieval import ArtifactSettings, ComputeSettings, MilvusSettings

PREFIX = "CLEAR_"
# Variables that Kubernetes sets in each container for a Service called `clear` or `clear-...`.
INJECTED_NAME = re.compile(
    r"CLEAR_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
INJECTED_PORT = re.compile(r"(tcp|udp|sctp)://\S+")
TRAINER_PREFIX = "CLEAR_TRAINER_"
# Variables of options that single commands have.
COMMAND_VARIABLES = {
    *("CLEAR_JSON", "CLEAR_SKIP_INVALID", "CLEAR_TOP_K", "CLEAR_BUILD_ONLY"),
    *("CLEAR_WORKERS", "CLEAR_RAY", "CLEAR_FIELD", "CLEAR_FILTER", "CLEAR_URL"),
}


# pydantic orders fields from the last base to the first: read the topics from below.
class Settings(
    TelemetrySettings,
    ShutdownSettings,
    DeadlineSettings,
    ChangeSettings,
    ReloadSettings,
    BatchSettings,
    ConnectionSettings,
    AccessSettings,
    ComputeSettings,
    MilvusSettings,
    ArtifactSettings,
    BaseSettings,
):
    """One field for each variable; a name ends with the unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
    )

    @field_validator("port", "operations_port", mode="before")
    @classmethod
    def _ignore_kubernetes(cls, value: object, info: ValidationInfo) -> object:
        """Take the default where Kubernetes sets CLEAR_PORT to the URL of a Service `clear`."""
        if isinstance(value, str) and INJECTED_PORT.fullmatch(value):
            return cls.model_fields[str(info.field_name)].default
        return value

    @property
    def is_admin_open(self) -> bool:
        """Return whether `/admin` answers; where there are keys, their scope decides, too."""
        is_guarded = self.is_local or self.has_keys
        return self.admin == "open" or (self.admin == "auto" and is_guarded)

    @property
    def are_documents_open(self) -> bool:
        """Return whether documents can be changed; where there are keys, scopes decide, too."""
        return self.documents == "open" or (self.documents == "auto" and self.has_keys)

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        for check in (_check_limits, _check_milvus, _check_keys, _check_ports):
            check(self)
        return self


def variable(field: str) -> str:
    """Return the name of a field's environment variable."""
    return PREFIX + field.upper()


def _close_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the nearest name; compared without the prefix, which would make all names alike."""
    names = [each.removeprefix(PREFIX) for each in known]
    return [PREFIX + each for each in difflib.get_close_matches(name, names, n=1, cutoff=0.7)]


def load_settings(**overrides: object) -> Settings:
    """Read the environment; values from the command line take precedence.

    Args:
        overrides: fields by name; None leaves the variable or the default.

    Raises:
        SettingsError: a variable is unknown, has a wrong value, or contradicts another.
    """
    known = {variable(name) for name in Settings.model_fields} | COMMAND_VARIABLES
    injected = injected_by_kubernetes(os.environ)
    for name in sorted(map(str.upper, os.environ)):
        if not name.startswith(PREFIX) or name.startswith(TRAINER_PREFIX):
            continue
        if name not in known and name not in injected:
            close = _close_names(name.removeprefix(PREFIX), known)
            fix = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise SettingsError(f"the setting {name} is unknown: {fix}")
    given = {name: value for name, value in overrides.items() if value is not None}
    _check_encoding(given)
    try:
        return Settings.model_validate(Settings(**given))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        where = f"{variable(str(first['loc'][0]))}: " if first["loc"] else ""
        raise SettingsError(f"{where}{reason}") from None


def _check_encoding(given: Mapping[str, object]) -> None:
    """Refuse names that are not UTF-8: the libraries that read and write files need it."""
    values = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    for name, value in (values | {variable(name): value for name, value in given.items()}).items():
        text = str(value)
        if text != text.encode(errors="replace").decode():
            raise SettingsError(f"{name}={text} is not UTF-8: rename the file or folder")


def injected_by_kubernetes(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that are like settings, but are from Kubernetes; they are ignored.

    >>> injected_by_kubernetes({"CLEAR_SEARCH_SERVICE_HOST": "10.0.0.1", "CLEAR_PORT": "8000"})
    ['CLEAR_SEARCH_SERVICE_HOST']
    """
    return sorted(
        name
        for name, value in environment.items()
        if INJECTED_NAME.fullmatch(name)
        or (name.startswith(PREFIX) and name.endswith("PORT") and INJECTED_PORT.fullmatch(value))
    )


def _check_limits(settings: Settings) -> None:
    for smaller, larger in (
        ("timeout_ms", "max_timeout_ms"),
        ("max_bulk_batch_tokens", "max_batch_tokens"),
        ("max_batch_tokens", "max_waiting_tokens"),
    ):
        values = getattr(settings, smaller), getattr(settings, larger)
        if None not in values and values[0] > values[1]:
            raise ValueError(
                f"{variable(smaller)}={values[0]} is above {variable(larger)}={values[1]}: "
                "lower one or raise the other"
            )


def _check_milvus(settings: Settings) -> None:
    if settings.index_backend == "milvus" and not settings.milvus_uri:
        raise ValueError("CLEAR_INDEX_BACKEND=milvus needs CLEAR_MILVUS_URI: name the server")
    if bool(settings.milvus_client_certificate_file) != bool(settings.milvus_client_key_file):
        raise ValueError(
            "CLEAR_MILVUS_CLIENT_CERTIFICATE_FILE and CLEAR_MILVUS_CLIENT_KEY_FILE "
            "go together: set both or neither"
        )
    uri = settings.milvus_uri
    is_plain = uri is not None and not uri.startswith("https://")
    if is_plain and (settings.milvus_ca_file or settings.milvus_client_key_file):
        raise ValueError(
            "CLEAR_MILVUS_URI is without TLS and CLEAR_MILVUS_CA_FILE or "
            "CLEAR_MILVUS_CLIENT_KEY_FILE is set: write https://..., or leave them out"
        )


def _check_keys(settings: Settings) -> None:
    for name, value in (
        ("require_keys", settings.require_keys),
        ("metrics", settings.metrics == "key"),
        ("docs", settings.docs == "key"),
    ):
        if value and not settings.has_keys:
            raise ValueError(
                f"{variable(name)}={str(getattr(settings, name)).lower()} and there is no key: set "
                "CLEAR_KEYS_FILE (clear-service key new makes its lines) or CLEAR_API_KEY"
            )


def _check_ports(settings: Settings) -> None:
    if settings.operations_port is not None and settings.operations_port == settings.port:
        raise ValueError(
            f"CLEAR_OPERATIONS_PORT and CLEAR_PORT are both {settings.port}: choose another"
        )
