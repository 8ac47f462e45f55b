"""Whether a tokenizer.json can be loaded, found out where it may end the process.

In: a path. Out: nothing, or an error of ours. tokenizers is native code, which a damaged file may
bring to an end with the whole process.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from edge_et.export.child_process import in_child
from edge_et.export.errors import NativeModelError, VocabularyError


def check_tokenizers(folders: Iterable[Path]) -> None:
    """Load each folder's tokenizer.json in a process of its own, where there is one.

    Args:
        folders: checkpoints.

    Raises:
        VocabularyError: it cannot be loaded, or ended the process.
    """
    for folder in folders:
        path = folder / "tokenizer.json"
        if not path.is_file():
            continue
        try:
            in_child(str(path), _load, path)
        except NativeModelError as err:
            raise VocabularyError(
                f"{path} ends the process that loads it: it is damaged; get it again"
            ) from err


def _load(path: Path) -> None:
    try:
        Tokenizer.from_file(str(path))
    except Exception as err:  # tokenizers raises bare exceptions
        raise VocabularyError(f"{path} cannot be read: {err}") from err
