"""HTML code: a text in, the contents of its <code>, <pre> and program tags out; the tags stay."""

import re

from .code_blocks import CodeBlock, CodePiece
from .inline_code import holds_code

_OPENING = re.compile(
    r"<(code|pre|execute|python|script)(?:[ \t\n][^<>]{0,200}+)?>"
    r"(?:\s*+<(code)(?:[ \t\n][^<>]{0,200}+)?>)?",
    re.IGNORECASE,
)
_CLOSING = {
    tag: re.compile(rf"</{tag}[ \t\n]*+>", re.IGNORECASE)
    for tag in ("code", "pre", "execute", "python", "script")
}


def find_html_code(text: str, start: int, end: int, *, must_close: bool = False) -> list[CodeBlock]:
    """The tagged blocks inside a range in order; one without a closing tag runs to its end.

    ``must_close`` takes a tag without a closing one for text: passages of web pages have them.
    What stands in <code> alone is held to the rule for inline code: a name stays.
    """
    blocks: list[CodeBlock] = []
    if text.find("<", start, end) < 0:
        return blocks
    at = start
    while match := _OPENING.search(text, at, end):
        tag = (match[2] or match[1]).lower()
        closing = _CLOSING[tag].search(text, match.end(), end)
        if closing is None and must_close:
            break
        content_end, after = closing.span() if closing else (end, end)
        if closing is None and not holds_code(text[match.end() : content_end].lstrip()[:100]):
            at = match.end()  # "put it in <execute> tags"
            continue
        is_inline = match[1].lower() == "code"
        is_code = not is_inline or holds_code(text[match.end() : content_end])
        piece = CodePiece(start=match.end(), end=content_end, detector="code:html")
        pieces = (piece,) if is_code else ()
        blocks.append(CodeBlock(start=match.start(), end=after, pieces=pieces))
        at = after
    return blocks
