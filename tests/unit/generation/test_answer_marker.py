import pytest

from edge_et.generation import MarkerSplitter, forced_marker

MARKER = "Answer:"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("text", ["a Answer: b", "AnsAnswer:", "Answer", "AAnswer:Answer:", ""])
def test_the_splitter_works_however_text_is_cut(text: str, size: int) -> None:
    splitter = MarkerSplitter(MARKER)
    before, rest, found = "", "", False
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        if found:
            rest += piece
            continue
        before += splitter.push(piece)
        if splitter.rest is not None:
            found, rest = True, splitter.rest
    if not found:
        before += splitter.finish("")
    assert (before, rest) == (text.partition(MARKER)[0], text.partition(MARKER)[2])
    assert found == (MARKER in text)


@pytest.mark.parametrize(
    ("before", "text"), [("", MARKER), ("red\n", MARKER), ("red", f"\n{MARKER}")]
)
def test_a_marker_that_is_put_in_has_a_line_of_its_own(before: str, text: str) -> None:
    assert forced_marker(MARKER, before) == text
