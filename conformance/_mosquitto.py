"""Starts mosquitto on a free loopback port, as the peer that we compare ourselves with."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_STARTING = threading.Lock()
_PLACES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
_OPTIONS = {
    "max_packet_size_bytes": "max_packet_size",
    "max_inflight_messages": "max_inflight_messages",
    "max_queued_messages": "max_queued_messages",
    "receive_maximum": "max_inflight_messages",
    "keep_alive_timeout_secs": "max_keepalive",
    "maximum_qos": "max_qos",
    "retain_available": "retain_available",
    "topic_alias_maximum": "max_topic_alias",
}


def find_mosquitto() -> str | None:
    """The program's path, or None."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_PLACES)


class Mosquitto:
    """A mosquitto of our own, with the settings of a scenario as far as it has them."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        program = find_mosquitto()
        if program is None:
            raise FileNotFoundError("mosquitto is not installed: install the package `mosquitto`")
        self.settings = {k: v for k, v in (settings or {}).items() if can_set(k)}
        self._folder = tempfile.TemporaryDirectory(prefix="mosquitto-")
        with _STARTING:  # So that no two threads choose the same free port.
            self._host = _own_host()
            self.port = _free_port(self._host)
            self._process = subprocess.Popen(
                [program, "-c", str(self._configuration())],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            self._await_listening()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._host, self.port

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _configuration(self) -> Path:
        folder = Path(self._folder.name)
        lines = [f"listener {self.port} {self._host}", "set_tcp_nodelay true", "persistence false"]
        settings = dict(self.settings)
        lines += self._users(folder, settings)
        lines += self._rules(folder, settings)
        lines += [f"{_OPTIONS[key]} {value}" for key, value in settings.items()]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            lines.append("user root")  # It would give its rights up, and not read this folder.
        path = folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    def _users(self, folder: Path, settings: dict[str, str]) -> list[str]:
        users = settings.pop("users", "")
        anonymous = settings.pop("anonymous", "yes")
        lines = [f"allow_anonymous {'true' if anonymous == 'yes' else 'false'}"]
        if users:
            path = folder / "users"
            path.touch(0o600)
            for user in users.split(","):
                name, _, password = user.partition(":")
                command = ["mosquitto_passwd", "-b", str(path), name, password]
                subprocess.run(command, check=True, capture_output=True)
            lines.append(f"password_file {path}")
        return lines

    def _rules(self, folder: Path, settings: dict[str, str]) -> list[str]:
        publish = settings.pop("deny_publish", "")
        if not publish:
            return []
        rules = ["topic readwrite #", f"topic deny {publish}"]
        path = folder / "rules"
        path.write_text("\n".join(rules) + "\n", "utf-8")
        path.chmod(0o600)
        return [f"acl_file {path}"]

    def _await_listening(self) -> None:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(self.address, timeout=1).close()
            except OSError:
                time.sleep(0.005)
            else:
                return
        self._process.kill()
        complaint = self._process.communicate()[1].decode(errors="replace")
        raise RuntimeError(f"mosquitto did not start on port {self.port}: {complaint.strip()}")


def can_set(key: str) -> bool:
    """Whether mosquitto has a setting of this meaning."""
    return key in _OPTIONS or key in ("users", "anonymous", "deny_publish")


def _own_host() -> str:
    """A loopback address for this process alone where there are many, as on Linux.

    Otherwise two programs that start brokers at the same time might choose the same free port.
    """
    if sys.platform != "linux":
        return "127.0.0.1"
    number = os.getpid()  # of at most 22 bits
    return f"127.{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
