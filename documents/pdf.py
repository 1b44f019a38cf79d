"""An invoice as PDF, typeset by typst inside this process: no network, no fonts of the machine, no clock."""

from collections.abc import Sequence
from datetime import UTC
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec
import typst

from schemas.documents import InvoiceDocument


def invoice_pdf(document: InvoiceDocument, font_folders: Sequence[Path] = ()) -> bytes:
    """PDF/A-2a and PDF/UA-1 on A4; the same document gives the same bytes with the same release of typst and fonts.

    typst brings letters for Latin, Greek, Cyrillic, Hebrew, Arabic and Devanagari. Others are taken from the fonts in
    `font_folders`. A sign that no font has is shown as a box: the file says so at its foot and is then plain PDF 1.7.
    """
    try:
        return _compiled(document, font_folders, strict=True)
    except typst.TypstError:
        return _compiled(document, font_folders, strict=False)


def _compiled(document: InvoiceDocument, font_folders: Sequence[Path], *, strict: bool) -> bytes:
    inputs = {"document": msgspec.json.encode(document).decode(), "boxes": "no" if strict else "yes"}
    return typst.compile(
        _template(),
        font_paths=_fonts(tuple(font_folders)),
        sys_inputs=inputs,
        # For archives, and readable aloud. They also demand a letter for every sign, which no set of fonts has.
        pdf_standards=["a-2a", "ua-1"] if strict else [],
        timestamp=document.issued_at.astimezone(UTC).replace(microsecond=0),
    )


@cache
def _fonts(folders: tuple[Path, ...]) -> typst.Fonts:
    return typst.Fonts(include_system_fonts=False, font_paths=list(folders))


@cache
def _template() -> bytes:
    return (files("documents") / "templates" / "invoice.typ").read_bytes()
