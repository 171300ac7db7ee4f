"""Where a server's lines go: stderr, syslog or a file; and the report of a stray write."""

from __future__ import annotations

import faulthandler
import logging
import logging.handlers
import os
import socket
import sys
from pathlib import Path

from wofs.cli.output import escape, message, say
from wofs.fuse.mountpoint import Refused
from wofs.slab import report_json, report_to
from wofs.slab.crashes import files_in

_LOGGERS = tuple(map(logging.getLogger, ("wofs", "pyfuse3")))
_STDERR = 2
_SYSLOG = "/dev/log"
REPORT_NAME = "crash-report.txt"
CRASHES = "crashes"
CRASHES_KEPT = 50
"""Reports in that folder when a server starts; older ones go."""

_TO_SYSLOG = "wofs[%(process)d]: %(message)s"
_TO_FILE = "%(asctime)s wofs[%(process)d] %(levelname)s %(message)s"


class _Line(logging.Formatter):
    """One line a record, whatever bytes the names in it have."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without its traceback."""
        return escape(super().formatMessage(record))


class _File(logging.FileHandler):
    """A file of lines; that it cannot be written any more (a full disk) is told of once."""

    _told = False

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        """Say why a line is missing, where somebody hears it."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            say(f"warning: {self.baseFilename}: {message(error)}: its log misses lines")


def start(log_file: str | None, background: bool) -> None:
    """Send the log, from INFO up, to a file if one is named; else, in the background, to syslog
    or the state folder. Raises Refused for a file that cannot be written.
    """
    for logger in _LOGGERS:
        logger.addHandler(logging.NullHandler())  # else Python writes to stderr without a handler
    _LOGGERS[0].setLevel(logging.INFO)
    if log_file:
        try:
            _add(_File(log_file), _TO_FILE)
        except OSError as error:
            raise Refused(f"{log_file}: {error.strerror}") from error
    elif background and not _start_syslog():
        _start_file()


def _start_syslog() -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SYSLOG)
        except OSError:  # there is none, or nobody listens
            return False
    daemon = logging.handlers.SysLogHandler.LOG_DAEMON
    _add(logging.handlers.SysLogHandler(_SYSLOG, facility=daemon), _TO_SYSLOG)
    return True


def _start_file() -> None:
    try:
        path = state_folder() / "wofs.log"
        _add(_File(path), _TO_FILE)
    except OSError as error:
        say(f"warning: nothing will be logged: {message(error)}")


def _add(handler: logging.Handler, form: str) -> None:
    handler.setFormatter(_Line(form))
    for logger in _LOGGERS:
        logger.addHandler(handler)


def to_stderr(level: int) -> None:
    """Send the log from `level` up to stderr too, if there is one."""
    if sys.stderr is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    _add(handler, "wofs: %(message)s")


def drop_stderr() -> None:
    """Send nothing to stderr any more: it is going to be closed."""
    for logger in _LOGGERS:
        for handler in logger.handlers[:]:
            if type(handler) is logging.StreamHandler:
                logger.removeHandler(handler)


def set_report(path: str | None, background: bool) -> None:
    """Have the report of a stray write appended to `path`, by default in the state folder.

    Python's own traceback of a crash, which follows the report, goes to one place only: the
    file if it was asked for or nobody sees stderr. Raises Refused for a path that cannot be
    written; without a state folder there is only stderr.
    """
    traceback = _STDERR
    try:
        number = report_to(os.path.abspath(path) if path else state_folder() / REPORT_NAME)
        if path or background:
            traceback = number
    except OSError as error:
        if path:
            raise Refused(f"{path}: {error.strerror}") from error
    faulthandler.enable(traceback)


def set_json_report(path: str | None) -> None:
    """Have the report of a stray write appended to `path` as JSON, by default made a file of its
    own in the state folder. Raises Refused for a path that cannot be written.
    """
    try:
        if path:
            report_json(os.path.abspath(path), False)
            return
        folder = state_folder() / CRASHES
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in files_in(folder)[:-CRASHES_KEPT]:
            old.unlink(missing_ok=True)
        report_json(folder, True)
    except OSError as error:
        if path:
            raise Refused(f"{path}: {error.strerror}") from error


def state_folder() -> Path:
    """Return (and make) the folder for what a server leaves behind; OSError if it cannot be."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isdir(home):
            raise FileNotFoundError(f"{home}: there is no home directory")
        base = os.path.join(home, ".local", "state")
    folder = Path(base, "wofs")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
