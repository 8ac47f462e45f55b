"""Who writes and tokenizes the prompts that the runtime's are compared with.

In: a checkpoint folder. Out: conversations as text, and their token ids. transformers does both
where it is installed; else jinja2 and tokenizers do, by the same files.
"""

from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from edge_et.export.chat.chat_template import ChatTemplate, processor_template
from edge_et.export.errors import VocabularyError


class Reference(Protocol):
    """Writes prompts of a checkpoint.

    Attributes:
        folder: the checkpoint.
        name: whose work it is, for reports.
    """

    folder: Path
    name: str

    def render(self, messages: list[dict[str, Any]], **switches: bool) -> str:
        """Write a conversation, up to the assistant's opening; raises VocabularyError."""

    def ids(self, text: str) -> list[int]:
        """Give the token ids of what was rendered, in which all special tokens stand."""


class PlainReference:
    """jinja2 and tokenizers."""

    name = "jinja2 and tokenizers"

    def __init__(self, folder: Path) -> None:
        """Read the template and tokenizer.json.

        Raises:
            VocabularyError: tokenizer.json cannot be read.
            UnreadableCheckpointError: another file cannot be read.
        """
        self.folder = folder
        self._template = ChatTemplate(folder)
        path = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as err:  # tokenizers raises bare exceptions
            raise VocabularyError(f"{path} cannot be read: {err}") from err
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def render(self, messages: list[dict[str, Any]], **switches: bool) -> str:
        """Write a conversation; see `Reference`."""
        return self._template.render(messages, **switches)

    def ids(self, text: str) -> list[int]:
        """Give the token ids of a text; see `Reference`."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class TransformersReference:
    """The tokenizer of transformers, without running code that may be in the folder."""

    name = "transformers"

    def __init__(self, folder: Path) -> None:
        """Load it.

        Raises:
            VocabularyError: it cannot be loaded, or its template is no text.
            UnreadableCheckpointError: the processor's template cannot be read.
        """
        from transformers import AutoTokenizer

        self.folder = folder
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as err:  # transformers and tokenizers raise nearly anything
            raise VocabularyError(f"the tokenizer of {folder} cannot be loaded: {err}") from err
        if (template := processor_template(folder)) is not None:
            self._tokenizer.chat_template = template

    def render(self, messages: list[dict[str, Any]], **switches: bool) -> str:
        """Write a conversation; see `Reference`."""
        try:
            text = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **switches
            )
        except Exception as err:  # whatever a template makes of it
            raise VocabularyError(
                f"the chat template of {self.folder} cannot be rendered: {err}"
            ) from err
        assert isinstance(text, str)
        return text

    def ids(self, text: str) -> list[int]:
        """Give the token ids of a text; see `Reference`."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids
