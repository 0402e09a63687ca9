"""A report's JSON within the text of its page, compressed: put in, and taken out."""

from __future__ import annotations

import base64
import re
import zlib

_OPENING = '<script type="text/plain" id="report-json-zlib-base64">'


def embedded(json: str) -> str:
    """The element of a page that holds this JSON."""
    packed = base64.b64encode(zlib.compress(json.encode(), 9)).decode()
    return f"{_OPENING}{packed}</script>"


def embedded_json(text: str) -> str:
    """The JSON of the report that is in the text of a page.

    Args:
        text: of an HTML file that :func:`html_page` made.

    Raises:
        ValueError: there is none in it, or not all of it.
    """
    found = re.search(f"{re.escape(_OPENING)}([^<]*)</script>", text)
    if found is None:
        raise ValueError("the file has no report in it; expected one that Report.to_html wrote")
    try:
        return zlib.decompress(base64.b64decode(found[1], validate=True)).decode()
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the report in the file is damaged: {error}") from None
