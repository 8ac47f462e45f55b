"""tokenizer.json of a checkpoint that has the older files alone: vocab.json and merges.txt.

In: a checkpoint folder. Out: a folder with all of its files and tokenizer.json. The checkpoint
itself is left as it is: it may be a cache that other tools share.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import AutoTokenizer

from edge_et.export.errors import VocabularyError

_NAME = "tokenizer.json"
_OLDER = ("vocab.json", "merges.txt")


@contextmanager
def with_tokenizer_file(folder: Path) -> Iterator[Path]:
    """Make a checkpoint's tokenizer.json by transformers, if only its older files are there.

    Args:
        folder: the checkpoint; no code in it is run.

    Yields:
        The folder itself, or a temporary one with links to its files and the new one.

    Raises:
        VocabularyError: transformers cannot read the older files.
    """
    if (folder / _NAME).is_file() or not all((folder / name).is_file() for name in _OLDER):
        yield folder
        return
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        content = tokenizer.backend_tokenizer.to_str(pretty=True)
    except Exception as err:  # transformers and tokenizers raise nearly anything
        raise VocabularyError(
            f"{folder} has no {_NAME}, and its {' and '.join(_OLDER)} cannot be read: {err}"
        ) from err
    with tempfile.TemporaryDirectory(prefix="edge-et-") as temporary:
        view = Path(temporary) / folder.name
        view.mkdir()
        for path in folder.iterdir():
            (view / path.name).symlink_to(path.absolute())
        (view / _NAME).write_text(content, encoding="utf-8")
        yield view
