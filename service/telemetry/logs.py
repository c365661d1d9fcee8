"""How log records are written: lines for people, or JSON for machines."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias

from service.telemetry.request_ids import current

LogFormat: TypeAlias = Literal["text", "json"]

# a message with a line break in it could look like two
_ESCAPES = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class TextLines(logging.Formatter):
    """A line for each record, with the id of its request; a traceback takes further lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, without line breaks of the message's own."""
        line = super().formatMessage(record).rstrip("\n").translate(_ESCAPES)
        request = current.get()
        return line if request is None else f"{line} [{request.id}]"


class JsonLines(logging.Formatter):
    """A JSON object on one line for each record.

    Its keys: `ts` (RFC 3339, UTC), `level`, `logger`, `message`; `request_id`, `model`, `version`
    and `trace_id` where they are known; what the record brings as `extra={"fields": {...}}`; and
    `exception`, a traceback as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        ts = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "ts": ts.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().rstrip("\n"),
        }
        if request := current.get():
            about = ("model", request.model), ("version", request.version)
            line["request_id"] = request.id
            line |= {name: value for name, value in about if value is not None}
            if request.trace_id is not None:
                line["trace_id"] = request.trace_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII, so that not even a lone surrogate in a file's name is in the way
        return json.dumps(line, default=str)


class Together(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop together: answers often leave by the dozen.

    What is worse than information, and what other threads say, is written at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, now or at the end of the turn."""
        try:
            self._lines.append(self.format(record))
            loop = None if record.levelno > logging.INFO else _running_loop()
            if loop is None:
                self.flush()
            elif len(self._lines) == 1:
                loop.call_soon(self.flush)
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - as the class above: the log is never a request's fault
            self.handleError(record)

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join(lines) + self.terminator)
            super().flush()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def log_config(level: str, log_format: LogFormat) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes: all loggers, to stderr."""
    lines = JsonLines if log_format == "json" else TextLines
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": lines}},
        "handlers": {"stderr": {"class": "service.telemetry.logs.Together", "formatter": "lines"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
    }
