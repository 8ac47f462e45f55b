"""Libraries that programs ask a server through, each as it stands: `edge-et serve` with the mini.

They bring half a hundred packages, so they live in an environment of their own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny.places import ROOT
from tiny.server import serving

pytestmark = pytest.mark.slow

LIBRARIES = ("langchain-openai==1.7.4", "litellm==1.110.2")

# Both in: address of the server, picture. Out: JSON.
BEGINNING = """
import base64, json, sys
from pydantic import BaseModel
address, picture = sys.argv[1:]
data = base64.b64encode(open(picture, "rb").read()).decode()
text = {"type": "text", "text": "What is this?"}
image_url = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}}
class Seen(BaseModel):
    seen: str
    is_animal: bool
"""

LANGCHAIN = (
    BEGINNING
    + """
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="mini", base_url=address + "/v1", api_key="none", max_retries=0)
block = {"type": "image", "base64": data, "mime_type": "image/png"}
asked = [HumanMessage(content=[text, image_url])]
reply = model.invoke(asked)
chunks = list(model.stream(asked, stream_usage=True))
told = {
    "invoke": reply.content,
    "usage": reply.usage_metadata,
    "finish_reason": reply.response_metadata["finish_reason"],
    "image block": model.invoke([HumanMessage(content=[text, block])]).content,
    "stream": "".join(chunk.content for chunk in chunks),
    "streamed usage": [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata],
    "structured": model.with_structured_output(Seen).invoke(asked).model_dump(),
    "batch": [one.content for one in model.batch([asked, asked])],
    "without a picture": model.invoke("Hello").content,
}
try:
    model.bind(stop=["a", "b"] * 9).invoke(asked)
except Exception as err:
    told["refused"] = [err.status_code, str(err)]
print(json.dumps(told))
"""
)

LITELLM = (
    BEGINNING
    + """
import litellm
messages = [{"role": "user", "content": [text, image_url]}]
told = {}
for name, base in (("openai/mini", address + "/v1"), ("ollama_chat/mini", address)):
    how = {"model": name, "api_base": base, "api_key": "none", "num_retries": 0}
    reply = litellm.completion(messages=messages, **how)
    chunks = list(litellm.completion(messages=messages, stream=True, **how))
    structured = litellm.completion(messages=messages, response_format=Seen, **how)
    told[name] = {
        "completion": reply.choices[0].message.content,
        "reasoning": reply.choices[0].message.reasoning_content,
        "finish_reason": reply.choices[0].finish_reason,
        "prompt_tokens": reply.usage.prompt_tokens,
        "stream": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
        "stream's end": [end for chunk in chunks if (end := chunk.choices[0].finish_reason)],
        "structured": json.loads(structured.choices[0].message.content),
    }
print(json.dumps(told))
"""
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the libraries."""
    folder = tmp_path_factory.mktemp("libraries")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    interpreter = folder / "bin" / "python"
    command = [interpreter, "-m", "pip", "install", "--quiet", *LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return interpreter


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as served:
        yield served.address


def run(python: Path, script: str, server: str) -> Any:
    command = [python, "-I", "-c", script, server, ROOT / "examples" / "cat.png"]
    # LiteLLM would fetch a list of prices as it is imported.
    surroundings = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_langchain(python: Path, server: str) -> None:
    told = run(python, LANGCHAIN, server)
    assert told["invoke"] == told["image block"] == told["stream"] == "cat"
    assert told["batch"] == ["cat", "cat"]
    assert told["finish_reason"] == "stop"
    assert told["usage"]["input_tokens"] > 126  # the image tokens, and the text around them
    (usage,) = told["streamed usage"]
    assert usage["input_tokens"] == told["usage"]["input_tokens"]
    assert told["structured"]["seen"] == "cat"
    assert isinstance(told["structured"]["is_animal"], bool)
    assert told["without a picture"]
    status, message = told["refused"]
    assert status == 400
    assert "stop" in message


def test_litellm(python: Path, server: str) -> None:
    told = run(python, LITELLM, server)
    assert told.keys() == {"openai/mini", "ollama_chat/mini"}
    for one in told.values():
        assert one["completion"] == one["stream"] == "cat"
        assert one["reasoning"].count("\n") == 1  # extraction and reasoning
        assert one["finish_reason"] == "stop"
        assert one["stream's end"] == ["stop"]
        assert one["prompt_tokens"] > 126
        assert one["structured"]["seen"] == "cat"
