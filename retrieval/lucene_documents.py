"""In: a passage, or what a Lucene index stored of one. Out: the JSON to store; the passage."""

import json
from collections.abc import Mapping
from typing import Any

from .passages import Passage


def document_json(passage: Passage) -> str:
    """The document that Anserini indexes and stores: ``{id, contents}`` as in Search-R1's corpora.

    Raises:
        ValueError: If the id has no UTF-8 form, so that hits could not be told apart.
    """
    try:
        passage.id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The id {passage.id!r} is no valid text (a lone surrogate), and Lucene keeps UTF-8 "
            "only. Give the passage another id."
        ) from error
    document = {"id": passage.id, "contents": passage.contents}
    if "\n" in passage.title:  # the first line alone would be read as the title
        document |= {"title": passage.title, "text": passage.text}
    return json.dumps(document)


def passage_of(identity: str, raw: str | None, contents: str | None) -> Passage:
    """The passage of a stored document, of whatever collection an index was made.

    A stored ``{text, title}`` is taken as it is; of ``contents`` a first line in quotes is the
    title. What is no JSON object (TREC's or HTML) is the text as it stands.

    Args:
        identity: The document's id.
        raw: What was read of the collection, if the index stores it.
        contents: The indexed text, if the index stores it.

    Raises:
        ValueError: If it stores neither.
    """
    if raw is not None:
        row = _json_object(raw)
        if row is None:
            return Passage(id=identity, text=raw)
        text, title = row.get("text"), row.get("title")
        title = title if isinstance(title, str) else ""
        if isinstance(text, str):
            return Passage(id=identity, title=title, text=text)
        if isinstance(row.get("contents"), str):
            return _split(identity, row["contents"], title)
        if contents is None:
            return Passage(id=identity, title=title, text=raw)
    if contents is None:
        raise ValueError(
            f"The index keeps no text of {identity!r}: it was built without -storeRaw and "
            "-storeContents. Build it again with -storeRaw, or with maskgym index CORPUS INDEX "
            "--backend lucene."
        )
    return _split(identity, contents, "")


def _split(identity: str, contents: str, title: str) -> Passage:
    first, newline, rest = contents.partition("\n")
    if newline and len(first) >= 2 and first.startswith('"') and first.endswith('"'):
        return Passage(id=identity, title=first[1:-1], text=rest)
    return Passage(id=identity, title=title, text=contents)


def _json_object(raw: str) -> Mapping[str, Any] | None:
    if not raw.lstrip().startswith("{"):
        return None
    try:
        row = json.loads(raw)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None
