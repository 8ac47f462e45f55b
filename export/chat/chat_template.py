"""A checkpoint's own chat template, and the tokens that it may name.

In: a checkpoint folder. Out: conversations as text. Templates are programs of strangers: jinja2
runs them in its sandbox, as transformers does, and they see nothing but messages and switches.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

from edge_et.export.checkpoint.checkpoint_folder import read_json
from edge_et.export.errors import VocabularyError

_TOKENIZER = "tokenizer.json"
_NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
"""Names that every tokenizer of transformers has; all others are those of a model."""


class ChatTemplate:
    """A chat template.

    Attributes:
        folder: the checkpoint.
        added: text of each added token by its id.
    """

    def __init__(self, folder: Path) -> None:
        """Read it.

        Args:
            folder: the checkpoint, with tokenizer.json. The template is that of the processor (see
                `processor_template`), else chat_template.jinja's, else that in
                tokenizer_config.json.

        Raises:
            UnreadableCheckpointError: a file cannot be read.
            VocabularyError: tokenizer.json is damaged, or the template is no text.
        """
        self.folder = folder
        path = folder / _TOKENIZER
        try:
            self.added: dict[int, str] = {
                token["id"]: token["content"] for token in read_json(path)["added_tokens"]
            }
        except (KeyError, TypeError) as err:
            raise VocabularyError(f"{path} is damaged: {err!r}") from err
        settings = _read_if_there(folder / "tokenizer_config.json")
        self._names = named_tokens(folder)
        self._source = _source(folder, settings.get("chat_template"))

    @property
    def start_of_text(self) -> str | None:
        """The token that begins a text; None where no file tells it."""
        return self._names.get("bos_token")

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


def named_tokens(folder: Path) -> dict[str, str]:
    """Return the tokens that have names, as transformers 5 reads them.

    special_tokens_map.json counts where tokenizer_config.json has no `added_tokens_decoder`, and
    is not looked at where it has one. Of a model's own names those in tokenizer_config.json count
    first, and those in its `extra_special_tokens` before all.

    Args:
        folder: the checkpoint.

    Raises:
        UnreadableCheckpointError: a file cannot be read.

    Source: `PreTrainedTokenizerBase._from_pretrained` of transformers 5.24.
    """
    settings = _read_if_there(folder / "tokenizer_config.json")
    older = {}
    if "added_tokens_decoder" not in settings:
        older = _read_if_there(folder / "special_tokens_map.json")
    own = {key: value for key, value in settings.items() if key not in _NAMED}
    found = settings | older | {key: value for key, value in own.items() if key.endswith("_token")}
    found = {key: value for key, value in found.items() if key.endswith("_token")}
    for place in (settings, older):
        if isinstance(named := place.get("extra_special_tokens"), dict):
            found |= named
    return {key: text for key, value in found.items() if (text := _text_of(value)) is not None}


def processor_template(folder: Path) -> Any:
    """Return the template of a checkpoint's processor, which counts before its tokenizer's.

    Args:
        folder: the checkpoint.

    Returns:
        What processor_config.json has, else chat_template.json; None: neither has one.

    Raises:
        UnreadableCheckpointError: a file cannot be read.
        VocabularyError: that in processor_config.json is no text.

    Source: `ProcessorMixin.get_processor_dict` of transformers 5.24.
    """
    path = folder / "processor_config.json"
    template = _read_if_there(path).get("chat_template")
    if template is None:
        return _read_if_there(folder / "chat_template.json").get("chat_template")
    if not isinstance(template, str):
        raise VocabularyError(f"{path}: chat_template is no text")
    return template


class _Generation(Extension):
    """The tag around what the model wrote, which training alone looks at."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        """Give what stands inside, in a scope of its own as transformers does."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_write"), [], [], body).set_lineno(line)

    def _write(self, caller: Macro) -> str:
        return caller()


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


def _require_plain(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a chat template may not set {name!r}")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "dict": _dict,
        "namespace": _Names,
        "raise_exception": _raise,
        "strftime_now": _refuse_date,
    }
    del environment.globals["lipsum"]  # random text: no two builds would be alike
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _dict(*given: Any, **values: Any) -> dict[Any, Any]:
    return dict(*given, **values)  # the class itself would be a way to its attributes


def _raise(message: str) -> None:
    raise TemplateError(message)


def _refuse_date(pattern: str) -> None:
    raise TemplateError(
        f"it writes today's date (strftime_now({pattern!r})), which a bundle would keep for ever"
    )


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _source(folder: Path, in_settings: Any) -> str | None:
    if (whole := processor_template(folder)) is not None:
        in_settings = whole
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
