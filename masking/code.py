"""Code detector: a turn in, its programs out, in whatever form they stand (marks stay in sight).

Marked code (fences, tags, backticks) and calls of a Python tool are code in every domain. Unmarked
lines need evidence, and how much depends on the domain: see `bare_code`.
"""

from collections.abc import Iterator

from .bare_code import STRICT_DOMAINS, find_bare_code, may_hold_program
from .code_blocks import CodeBlock, CodePiece, gaps
from .fences import find_fences
from .html_code import find_html_code
from .inline_code import find_inline_code
from .pseudo_code import find_pseudo_code
from .spans import MaskableTask, Span, SpanKind, stripped_span
from .traces import TraceTurn, TurnKind

CODE_TOOLS = frozenset(
    (
        *("python", "code", "code_interpreter", "execute", "ipython", "interpreter", "jupyter"),
        *("python_interpreter", "execute_python", "run_python", "run_code", "python_repl"),
    )
)
"""Tools (casefolded) whose calls are programs."""


def find_code(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """A Python call and the bare final program of a code task as a whole; in text, all its code.

    Tool results are left to the detector of results, which takes them as a whole. Spans of different
    forms may overlap, as backticks around a bare program; merging joins them.
    """
    text = turn.text
    if turn.kind is TurnKind.TOOL_RESULT:
        return
    if turn.kind is TurnKind.TOOL_CALL and turn.tool.casefold() in CODE_TOOLS:
        whole = CodePiece(start=0, end=len(text), detector="code:call")
        yield from _spans(text, whole)
        return
    domain = str(task.domain)
    if domain in STRICT_DOMAINS and not _may_hold_marks(text) and not may_hold_program(text):
        return
    blocks = _blocks(text, domain)
    if turn.kind is TurnKind.ANSWER and domain == "code" and not blocks:
        yield from _spans(text, CodePiece(start=0, end=len(text), detector="code:bare"))
        return
    for block in blocks:
        for piece in block.pieces:
            yield from _spans(text, piece)
    prose = list(gaps(blocks, 0, len(text)))
    for piece in find_inline_code(text, prose, must_parse=domain == "search"):
        yield from _spans(text, piece)
    for start, end in prose:
        programs = [
            CodeBlock(start=piece.start, end=piece.end, pieces=(piece,))
            for piece in find_bare_code(text, start, end, domain)
        ]
        for program in programs:
            yield from _spans(text, program.pieces[0])
        for sentence_start, sentence_end in gaps(programs, start, end):
            for piece in find_pseudo_code(text, sentence_start, sentence_end, domain):
                yield from _spans(text, piece)


def _may_hold_marks(text: str) -> bool:
    """Whether a mark of code can be in a text; "<<3+4=7>>" is none."""
    if "`" in text or "~~~" in text or "</" in text:
        return True
    return "<code" in text or "<pre" in text


def _blocks(text: str, domain: str) -> list[CodeBlock]:
    """Fenced and tagged blocks in order; tags count outside of fences only."""
    blocks = find_fences(text)
    if "<" not in text:
        return blocks
    tagged = [
        block
        for start, end in gaps(blocks, 0, len(text))
        for block in find_html_code(text, start, end, must_close=domain == "search")
    ]
    return sorted(blocks + tagged) if tagged else blocks


def _spans(text: str, piece: CodePiece) -> Iterator[Span]:
    return stripped_span(text, piece.start, piece.end, kind=SpanKind.CODE, detector=piece.detector)
