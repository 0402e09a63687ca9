"""A report's JSON within the text of its page, compressed: put in, and taken out."""

from __future__ import annotations

import base64
import re
import zlib

_OPENING = '<script type="text/plain" id="report-json-zlib-base85">'
_OPENING_OF_BASE64 = _OPENING.replace("base85", "base64")
"""Of pages until 0.2.0; base85 takes a sixteenth less."""

_INERT = str.maketrans("<&", ",.")
"""Two characters of base85 that HTML takes for its own, and two that base85 lacks."""


def embedded(json: str) -> str:
    """The element of a page that holds this JSON."""
    packed = base64.b85encode(zlib.compress(json.encode(), 9)).decode()
    return f"{_OPENING}{packed.translate(_INERT)}</script>"


def embedded_json(text: str) -> str:
    """The JSON of the report that is in the text of a page.

    Args:
        text: of an HTML file that :func:`html_page` made.

    Raises:
        ValueError: there is none in it, or not all of it.
    """
    found = re.search(f"({_OPENING}|{_OPENING_OF_BASE64})([^<]*)</script>", text)
    if found is None:
        raise ValueError("the file has no report in it; expected one that Report.to_html wrote")
    try:
        if found[1] == _OPENING_OF_BASE64:
            packed = base64.b64decode(found[2], validate=True)
        else:
            packed = base64.b85decode(found[2].translate(str.maketrans(",.", "<&")))
        return zlib.decompress(packed).decode()
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the report in the file is damaged: {error}") from None
