"""Sets a sheet on A4 pages. The same sheet always gives the same bytes."""

from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from kindling_billing.documents.fonts import BOLD, FONT, drawable, fonts_register
from kindling_billing.documents.sheet import Sheet

MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
PADDING = 6  # what a frame adds on each side
GREY, LINE = colors.HexColor("#5b6470"), colors.HexColor("#d5d9de")


def sheet_pdf(sheet: Sheet) -> bytes:
    """A sheet as PDF; characters that the font lacks become question marks."""
    fonts_register()
    out = BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=MARGIN - PADDING,
        rightMargin=MARGIN - PADDING,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=sheet.title,
        author=sheet.seller.partition("\n")[0],
        invariant=1,
    )
    story: list[Any] = [
        _text(sheet.title, size=17, bold=True),
        Spacer(0, 8 * mm),
        _parties(sheet),
        Spacer(0, 9 * mm),
        _lines(sheet),
        Spacer(0, 3 * mm),
        _sums(sheet),
        Spacer(0, 9 * mm),
        *(_text(note, size=8, grey=True) for note in sheet.notes),
    ]
    document.build(story, onFirstPage=_foot, onLaterPages=_foot)
    return out.getvalue()


def _parties(sheet: Sheet) -> Table:
    facts = Table(
        [[_text(name, grey=True), _text(value)] for name, value in sheet.facts],
        colWidths=[24 * mm, WIDTH * 0.55 - 24 * mm],
        style=_plain(),
    )
    left = [_text(sheet.seller), Spacer(0, 5 * mm), _text("Bill to", grey=True), _text(sheet.buyer or "—")]
    return Table([[left, facts]], colWidths=[WIDTH * 0.45, WIDTH * 0.55], style=_plain())


def _lines(sheet: Sheet) -> Table:
    numbers = len(sheet.head) - 1
    column = 34 * mm if numbers > 1 else 40 * mm
    head = [_text(name, grey=True, right=place > 0) for place, name in enumerate(sheet.head)]
    rows = [[_text(cell, right=place > 0) for place, cell in enumerate(row)] for row in sheet.rows]
    style = [*_plain().getCommands(), ("LINEBELOW", (0, 0), (-1, -1), 0.5, LINE)]
    style += [("TOPPADDING", (0, 0), (-1, -1), 4), ("BOTTOMPADDING", (0, 0), (-1, -1), 4)]
    return Table(
        [head, *rows],
        colWidths=[WIDTH - numbers * column, *[column] * numbers],
        repeatRows=1,
        style=TableStyle(style),
    )


def _sums(sheet: Sheet) -> Table:
    last = len(sheet.sums) - 1
    rows = [
        ["", _text(name, bold=place == last), _text(amount, right=True, bold=place == last)]
        for place, (name, amount) in enumerate(sheet.sums)
    ]
    return Table(rows, colWidths=[WIDTH - 95 * mm, 55 * mm, 40 * mm], style=_plain())


def _plain() -> TableStyle:
    return TableStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 1.5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
        ]
    )


def _text(
    text: str, *, size: float = 9, bold: bool = False, grey: bool = False, right: bool = False
) -> Paragraph:
    style = ParagraphStyle(
        "text",
        fontName=BOLD if bold else FONT,
        fontSize=size,
        leading=size * 1.35,
        textColor=GREY if grey else colors.black,
        splitLongWords=True,
    )
    if right:
        style.alignment = TA_RIGHT
    return Paragraph(escape(drawable(text)).replace("\n", "<br/>"), style)


def _foot(canvas: Any, document: Any) -> None:
    canvas.saveState()
    canvas.setFont(FONT, 8)
    canvas.setFillColor(GREY)
    canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"{document.title} · page {document.page}")
    canvas.restoreState()
