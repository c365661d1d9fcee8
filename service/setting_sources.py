"""Where settings come from: options win over environment variables, and these over a TOML file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pydantic_settings
from pydantic import SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource

from service.access.keys import KEY
from service.config import read_toml
from service.errors import SettingsError

PREFIX = "MCDROP_"
_FILE, _OPTION, _ENVIRONMENT = "file", "option", "environment"


@dataclass(frozen=True, slots=True)
class Sources:
    """What was set, before it is checked.

    Attributes:
        values: by the setting's name; those that win.
        origins: of each value: `file`, `environment` or `option`.
        path: of the file that was read, as it was given; `None` without one.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    path: Path | str | None

    def explain(self, error: ErrorDetails, fields: Mapping[str, FieldInfo]) -> str:
        """One line on what is wrong with a value, with the variable or the file; no secret in it.

        Args:
            error: pydantic's.
            fields: of the settings.
        """
        name = ".".join(str(part) for part in error["loc"])
        first = str(error["loc"][0]) if error["loc"] else None
        field = None if first is None else fields.get(first)
        said = error["msg"].removeprefix("Value error, ")
        got = f"{error['input']!r:.200}"
        if field is not None and not holds_secret(field.annotation) and not KEY.search(got):
            said += f"; got {got}"
        if field is not None and self.origins.get(str(first)) == _FILE:
            return f"settings file {str(self.path)!r}: {name}: {said}"
        return f"setting {name} ({variable(name)}): {said}"


def gather(settings: type[BaseSettings], options: Mapping[str, Any]) -> Sources:
    """Put together what the options, the environment and the file that `config` names say.

    Raises:
        SettingsError: a variable is not JSON where it has to be, the file cannot be read, or it
            holds what is no setting.
    """
    try:
        environment = EnvSettingsSource(settings)()
    except pydantic_settings.SettingsError as error:  # JSON for a list, say
        raise SettingsError(str(error)) from None
    path = options.get("config") or environment.get("config")
    file = _read(Path(path), settings) if path else {}
    origins = dict.fromkeys(file, _FILE) | dict.fromkeys(environment, _ENVIRONMENT)
    origins |= dict.fromkeys(options, _OPTION)
    return Sources(file | environment | dict(options), origins, path)


def variable(name: str) -> str:
    """Name of a setting's environment variable."""
    return PREFIX + name.upper()


def holds_secret(annotation: object) -> bool:
    """Whether values of this type are never to be said."""
    if isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes):
        return True
    return any(map(holds_secret, get_args(annotation)))


def _read(path: Path, settings: type[BaseSettings]) -> dict[str, Any]:
    values = read_toml(path, "settings file")
    known = [name for name in settings.model_fields if name != "config"]
    for name in values:
        if name not in known:  # its value is not repeated: it may be a secret
            near = difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise SettingsError(
                f"settings file {str(path)!r}: there is no setting {name!r}; {hint}"
            )
    return values
