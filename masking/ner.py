"""Named entities: any spaCy pipeline in, a detector of the names that no task lists out.

Needs the extra `ner` (spaCy) and a pipeline, which spaCy distributes itself.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

if TYPE_CHECKING:
    from spacy.language import Language

NAME_LABELS = (
    *("PERSON", "PER", "ORG", "GPE", "LOC", "FAC", "NORP"),
    *("EVENT", "WORK_OF_ART", "PRODUCT", "LAW", "LANGUAGE", "MISC"),
)
"""Labels of names in the pipelines of spaCy; numbers and dates have detectors of their own."""


class SpacyEntities:
    """A detector of named entities; one line adds it to all others.

    ``register_detector("ner", SpacyEntities("en_core_web_sm"))``

    For many traces, `warm` runs the pipeline in batches; the detector then reads what it found.
    """

    def __init__(
        self,
        pipeline: "str | Language" = "en_core_web_sm",
        *,
        labels: Sequence[str] = NAME_LABELS,
        batch_size: int = 64,
    ):
        """Takes a pipeline by its installed name or path, or as an object.

        Args:
            pipeline: The pipeline; one given by name is loaded on first use.
            labels: Entity labels that count as entities.
            batch_size: Texts in one batch of `nlp.pipe`.

        Raises:
            ValueError: If there are no labels, or batch_size is below 1.
        """
        if isinstance(labels, str) or not labels:
            raise ValueError(f'labels is {labels!r}; give a list such as ["PERSON", "ORG"].')
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give at least 1.")
        self.pipeline = pipeline
        self.labels = frozenset(labels)
        self.batch_size = batch_size
        self._nlp: Language | None = None
        self._found: dict[str, tuple[Span, ...]] = {}

    def __call__(self, turn: TraceTurn, task: MaskableTask) -> Iterable[Span]:
        """The named entities of one turn."""
        found = self._found.get(turn.text)
        return self.find_in_texts([turn.text])[0] if found is None else found

    def find_in_texts(self, texts: Iterable[str]) -> list[tuple[Span, ...]]:
        """The named entities of each text, found in batches.

        Raises:
            ImportError: If spaCy is not installed.
            LookupError: If the pipeline is not installed.
            ValueError: If the pipeline has none of the labels.
        """
        nlp = self._load()
        texts = list(texts)
        pieces = [piece for at, text in enumerate(texts) for piece in _pieces(text, at, nlp)]
        found: list[list[Span]] = [[] for _ in texts]
        for doc, (index, offset) in nlp.pipe(pieces, as_tuples=True, batch_size=self.batch_size):
            for entity in doc.ents:
                if entity.label_ in self.labels:
                    start, end = offset + entity.start_char, offset + entity.end_char
                    value = texts[index][start:end]
                    found[index].append(
                        Span(
                            start=start,
                            end=end,
                            kind=SpanKind.ENTITY,
                            value=value,
                            detector="ner",
                        )
                    )
        return [tuple(spans) for spans in found]

    def warm(self, texts: Iterable[str]) -> None:
        """Finds the entities of all texts in batches and keeps them, in the place of the last."""
        distinct = list(dict.fromkeys(texts))
        self._found = dict(zip(distinct, self.find_in_texts(distinct), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        # A worker loads a pipeline by its name faster than it unpickles one.
        state = {**self.__dict__, "_found": {}}
        return state if not isinstance(self.pipeline, str) else {**state, "_nlp": None}

    def _load(self) -> "Language":
        if self._nlp is None:
            nlp = _load_by_name(self.pipeline) if isinstance(self.pipeline, str) else self.pipeline
            _check_labels(nlp, self.labels)
            self._nlp = nlp
        return self._nlp


def _load_by_name(name: str) -> "Language":
    try:
        import spacy
    except ImportError as error:
        raise ImportError(
            "SpacyEntities needs spaCy, which is not installed; "
            "run `pip install 'maskgym[ner]'` (or `pip install spacy`)."
        ) from error
    try:
        return spacy.load(name)
    except OSError as error:
        installed = spacy.util.get_installed_models()
        nearest = difflib.get_close_matches(name, installed, n=1)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        known = f" Installed: {', '.join(installed)}." if installed else ""
        raise LookupError(
            f"No spaCy pipeline {name!r} is installed. {hint}Run `python -m spacy download "
            f"{name}`, or hand in a pipeline object.{known}"
        ) from error


def _check_labels(nlp: "Language", labels: frozenset[str]) -> None:
    known = {label for found in nlp.pipe_labels.values() for label in found}
    finds_entities = {"ner", "entity_ruler"} & set(nlp.pipe_names)
    offered = {label for name in finds_entities for label in nlp.pipe_labels.get(name, ())} or known
    if offered and not labels & offered:
        raise ValueError(
            f"The spaCy pipeline has none of the labels {', '.join(sorted(labels))}; "
            f"it has {', '.join(sorted(offered))}. Pass some of these as labels."
        )


def _pieces(text: str, index: int, nlp: "Language") -> Iterator[tuple[str, tuple[int, int]]]:
    """A text in pieces that the pipeline accepts, cut at a line's end or else a space."""
    start = 0
    while start < len(text):
        end = min(start + nlp.max_length, len(text))
        if end < len(text):
            cut = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
            end = cut + 1 if cut > start else end
        yield text[start:end], (index, start)
        start = end
