"""Starting the app: what must be right before a port is opened, and Streamlit's settings."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from pipeline.app_data import AppError, runs_of

PASSWORD = "IDENTRIX_APP_PASSWORD"
FOLDER = "IDENTRIX_APP_FOLDER"
LEAST_PASSWORD = 8
MOST_UPLOAD_MB = 25


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what binds to `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("shop.example")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_start(folder: Path, host: str, port: int) -> None:
    """Raise AppError unless the app can be shown here, to those who may see it."""
    if find_spec("streamlit") is None:
        raise AppError("Streamlit is not installed: pip install 'identrix[app]'")
    runs_of(folder)
    password = os.environ.get(PASSWORD, "")
    if not is_loopback(host) and len(password) < LEAST_PASSWORD:
        raise AppError(
            f"--host {host}: others could look at these people; "
            f"set {PASSWORD} in the environment to a password of at least {LEAST_PASSWORD} characters"
        )
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise AppError(f"--host {host} --port {port}: {error.strerror or error}; choose another one") from None


def command(host: str, port: int, *, browser: bool) -> list[str]:
    """The command line of the server."""
    page = Path(__file__).with_name("app_page.py")
    settings = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": str(not browser).lower(),
        "server.fileWatcherType": "none",
        "server.maxUploadSize": str(MOST_UPLOAD_MB),
        "server.enableXsrfProtection": "true",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.base": "light",
        "theme.primaryColor": "#0072b2",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(page), *flags]


def environment(folder: Path) -> dict[str, str]:
    """What the server finds in its environment."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, FOLDER: str(folder.resolve()), "PYTHONPATH": path}


def may_enter(given: str) -> bool:
    """Whether a password is the one in the environment; without one there everybody on this machine may."""
    wanted = os.environ.get(PASSWORD, "")
    return not wanted or hmac.compare_digest(given.encode(), wanted.encode())
