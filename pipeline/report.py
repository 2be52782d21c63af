"""report.html: a finished run on one page, for people. One file that needs no network: it can be mailed, and opens from
disk; only the videos it links to lie beside it.

The page is pipeline/report_page/ (style, body, scripts) with the data of pipeline/report_data.py. The data are JSON in
which no `<` is left, scripts write names as text only, and the page's own policy runs no script but these: a camera or
site may have any name.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

from pipeline.atomic import write_lines
from pipeline.report_data import report_data

_PARTS = Path(__file__).parent / "report_page"
_SCRIPTS = ("core.js", "timeline.js", "graph.js", "charts.js", "persons.js", "main.js")


def write_report(run_dir: Path) -> Path:
    """Write report.html into a finished run folder and return its path.

    Raises RunFolderError when this is not the folder of a finished run, JournalError when one of the files is damaged,
    OutputError when the page cannot be written.
    """
    path = Path(run_dir) / "report.html"
    write_lines(path, [page(report_data(Path(run_dir))).encode()])
    return path


def page(data: dict[str, Any]) -> str:
    """The whole page around the data."""
    style = _part("style.css")
    script = "(() => {\n" + "\n".join(_part(name) for name in _SCRIPTS) + "\n})();"
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "img-src data:",
            "media-src 'self' file:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(str(data['site']))}</title><style>{style}</style></head><body>\n{_part('body.html')}"
        f'<script type="application/json" id="data">{embedded(data)}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def embedded(data: dict[str, Any]) -> str:
    """Strict JSON that cannot end the script element it stands in.

    >>> embedded({"camera": "</script><b>&"})
    '{"camera":"\\\\u003c/script\\\\u003e\\\\u003cb\\\\u003e\\\\u0026"}'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":  # `<!--` and `</script` end or bend a script element
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
