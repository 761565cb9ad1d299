"""One TOML file, the environment and flags, read once into a role's frozen settings.

Later wins: file, then environment (`DRIFTWELL_EDGE_SPOOL__WINDOW=8`), then flags and
`--set spool.window=8`. An unknown key is an error that suggests the right one.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from driftwell.messages.errors import SettingsError

Settings = TypeVar("Settings", bound=msgspec.Struct)
Document = dict[str, Any]


def read_settings(
    role: type[Settings],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    prefix: str = "",
    flags: Mapping[str, object] | None = None,
    assignments: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Build a role's settings.

    Args:
        role: The struct to build.
        file: TOML file, or None.
        environment: Variables; those that begin with `prefix` are settings.
        prefix: Such as `DRIFTWELL_EDGE_`.
        flags: By setting name; None means not given.
        assignments: `key=value` with dots for nested keys, as `--set` takes them.
        defaults: What the file is laid over.

    Raises:
        SettingsError: which setting is wrong, in which source, and what would be right.
    """
    document: Document = _copy(defaults or {})
    if file is not None:
        _merge(document, _read_file(file))
    for name, value in (environment or {}).items():
        if name.startswith(prefix) and prefix:
            _assign(document, name[len(prefix) :].lower().split("__"), value)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise SettingsError(f"--set takes key=value, not {assignment!r}")
        _assign(document, key.strip().split("."), value.strip())
    _merge(document, {name: value for name, value in (flags or {}).items() if value is not None})
    _refuse_unknown(role, document, path="")
    try:
        return msgspec.convert(document, role, strict=False, dec_hook=_as_path)
    except msgspec.ValidationError as error:
        raise SettingsError(f"configuration: {error}") from error


def _read_file(file: Path) -> Document:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"configuration file {file} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"configuration file {file} cannot be read: {error}") from error


def _copy(document: Mapping[str, Any]) -> Document:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in document.items()}


def _merge(document: Document, over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = _copy(value) if isinstance(value, Mapping) else value


def _assign(document: Document, path: list[str], value: str) -> None:
    for key in path[:-1]:
        inner = document.setdefault(key, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"{'.'.join(path)}: {key!r} is not a table")
        document = inner
    document[path[-1]] = value


def _refuse_unknown(role: type[msgspec.Struct], document: Mapping[str, Any], path: str) -> None:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(role)}
    for key, value in document.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {path + close[0]!r}?" if close else f"known: {', '.join(fields)}"
            raise SettingsError(f"unknown setting {path + key!r}; {hint}")
        nested = _struct_in(fields[key])
        if nested is not None and isinstance(value, Mapping):
            _refuse_unknown(nested, value, f"{path}{key}.")


def _struct_in(annotation: object) -> type[msgspec.Struct] | None:
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def _as_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    raise NotImplementedError(f"no conversion to {kind}")  # what msgspec asks of a hook
