"""HTML whose texts are always escaped: what is not made by `element` is text."""

from collections.abc import Iterable
from html import escape

# They have no content and no end tag.
_VOID = frozenset({"meta", "br", "hr", "col"})


class Html(str):
    """Markup that is safe to put into a page."""

    __slots__ = ()


def text(content: str) -> Html:
    return content if isinstance(content, Html) else Html(escape(content))


def joined(parts: Iterable[str]) -> Html:
    return Html("".join(text(part) for part in parts))


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """`element("td", "a < b", class_="sum")`: a text child is escaped, an Html child is not. Empty attributes are left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{joined(children)}</{name}>")
