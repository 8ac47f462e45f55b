"""What `make-data` writes and training reads: one question about one picture a line.

Text comes from data sets and from models, so it is checked here, at the one door that writing and
reading share: text of a record is never a control token of a chat format.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from edge_et.errors import TuningError

MAX_TEXT_CHARS = 8000

EXTRACT_PROMPT = "Describe the picture. Pay attention to: {question}"
"""What the perceiver is asked in a record, where the caller says nothing else."""

# Control tokens as chat formats write them. A tokenizer would read such text as the token itself,
# so that a data set could end a turn or begin one.
_CONTROL_TOKEN = re.compile(r"<\|[^<>\n]{1,64}?\|>|</?s>|<image>|<(?:start|end)_of_\w{1,32}>")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class ExtractionRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One training sample of the extraction stage.

    Attributes:
        id: names the sample within its file.
        image: path of the picture, relative to the folder of pictures, parts separated by "/".
        prompt: what the perceiver is asked, with the question it shall pay attention to.
        question: what is to be answered.
        answer: the right answer.
        extraction: what the perceiver should write down.
        statements: what the question-answer pairs of the picture say, a sentence each.
        describer: what wrote the extraction.
        reasoning: what should be thought before the answer; empty if nobody wrote it.
    """

    image: str
    question: str
    answer: str
    extraction: str
    id: str = ""
    prompt: str = ""
    statements: tuple[str, ...] = ()
    describer: str = ""
    reasoning: str = ""


def fault_in(text: str) -> str | None:
    """Say what is wrong with a text that was written elsewhere.

    Returns:
        A few words, such as "is empty"; None if the text can be used.
    """
    if not text.strip():
        return "is empty"
    if len(text) > MAX_TEXT_CHARS:
        return f"has {len(text)} characters, more than {MAX_TEXT_CHARS}"
    if found := _CONTROL_TOKEN.search(text):
        return f"contains the control token {found.group()!r}"
    if _CONTROL_CHARACTER.search(text):
        return "contains control characters"
    return None


def read_records(path: Path) -> list[ExtractionRecord]:
    """Read a file of training samples; an empty line is skipped.

    Args:
        path: JSON Lines, as `make-data` writes it or as written by hand.

    Raises:
        TuningError: the file cannot be read, a line is no record, or a text cannot be used.
    """
    decoder = msgspec.json.Decoder(ExtractionRecord)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as err:
        raise TuningError(f"cannot read {path}: {err.strerror or err}") from err
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as err:
            raise TuningError(f"{path}, line {number} is no training sample: {err}") from err
        if fault := _fault_in_record(record):
            raise TuningError(f"{path}, line {number}: {fault}; correct or remove the line")
        records.append(record)
    if not records:
        raise TuningError(f"{path} holds no training samples")
    return records


def _fault_in_record(record: ExtractionRecord) -> str | None:
    needed = ("image", "question", "answer", "extraction")
    optional = ("prompt", "reasoning")
    for name in (*needed, *(name for name in optional if getattr(record, name))):
        if fault := fault_in(getattr(record, name)):
            return f"{name} {fault}"
    return None
