"""A checkpoint's own chat template, and the tokens that it may name.

In: a checkpoint folder. Out: conversations as text. Templates are programs of strangers: jinja2
runs them in its sandbox, as transformers does, and they see nothing but messages and switches.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

from edge_et.export.checkpoint.checkpoint_folder import read_json
from edge_et.export.errors import VocabularyError

_TOKENIZER = "tokenizer.json"
_SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")


class ChatTemplate:
    """A chat template.

    Attributes:
        folder: the checkpoint.
        added: text of each added token by its id.
    """

    def __init__(self, folder: Path) -> None:
        """Read it.

        Args:
            folder: the checkpoint, with tokenizer.json. The template is chat_template.json's, else
                chat_template.jinja's, else that in tokenizer_config.json.

        Raises:
            UnreadableCheckpointError: a file cannot be read.
            VocabularyError: tokenizer.json is damaged.
        """
        self.folder = folder
        path = folder / _TOKENIZER
        try:
            self.added: dict[int, str] = {
                token["id"]: token["content"] for token in read_json(path)["added_tokens"]
            }
        except (KeyError, TypeError) as err:
            raise VocabularyError(f"{path} is damaged: {err!r}") from err
        settings: dict[str, Any] = {}
        for name in _SETTINGS:
            if (folder / name).is_file():
                settings |= read_json(folder / name)
        self._names = {
            key: text
            for key, value in settings.items()
            if key.endswith("_token") and (text := _text_of(value)) is not None
        }
        self._source = _source(folder, settings.get("chat_template"))

    @property
    def end_of_text(self) -> str | None:
        """The token that ends a text; None where no file tells it."""
        return self._names.get("eos_token")

    def render(self, messages: list[dict[str, Any]], **switches: bool) -> str:
        """Write a conversation, up to the assistant's opening.

        Args:
            messages: roles and contents.
            switches: of the template.

        Raises:
            VocabularyError: there is no template, or it cannot be rendered.
        """
        if self._source is None:
            raise VocabularyError(f"{self.folder} has no chat template")
        try:
            template = _environment().from_string(self._source)
            return template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._names,
                **switches,
            )
        except Exception as err:  # whatever a template makes of it
            raise VocabularyError(
                f"the chat template of {self.folder} cannot be rendered: {err}"
            ) from err


class _Generation(Extension):
    """The tag around what the model wrote, which training alone looks at."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Give what stands inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Names(Namespace):
    """jinja2's namespace without the names that Python gives a meaning to."""

    def __init__(self, /, *given: Any, **values: Any) -> None:
        for name in dict(*given, **values):
            _require_plain(name)
        super().__init__(*given, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a name."""
        _require_plain(name)
        super().__setitem__(name, value)


def _require_plain(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a chat template may not set {name!r}")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals = {
        "namespace": _Names,
        "raise_exception": _raise,
        "range": environment.globals["range"],
        "strftime_now": _now,
    }
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _source(folder: Path, in_settings: Any) -> str | None:
    # Older processors keep it in a file of their own, which is about pictures too.
    if (legacy := folder / "chat_template.json").is_file():
        in_settings = read_json(legacy).get("chat_template")
    elif (alone := folder / "chat_template.jinja").is_file():
        try:
            return alone.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise VocabularyError(f"{alone} cannot be read: {err}") from err
    if isinstance(in_settings, list):
        named = {each.get("name"): each for each in in_settings if isinstance(each, dict)}
        in_settings = named.get("default", {}).get("template")
    return in_settings if isinstance(in_settings, str) else None


def _text_of(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
