"""The Ollama protocol as clients speak it: `edge-et serve` with the mini, and real requests.

Bodies are shaped as the clients named send them, and replies read as those read them.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import ollama
import pytest
from tiny.places import ROOT
from tiny.server import serving

CAT = ROOT / "examples" / "cat.png"
IMAGE = base64.b64encode(CAT.read_bytes()).decode()
QUESTION = "What is this?"
ASKED = {"role": "user", "content": QUESTION, "images": [str(CAT)]}
SCHEMA = {
    "type": "object",
    "properties": {"seen": {"type": "string", "maxLength": 20}},
    "required": ["seen"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as served:
        yield served.address


@pytest.fixture(scope="module")
def client(server: str) -> ollama.Client:
    return ollama.Client(host=server)


@pytest.fixture(scope="module")
def whole(client: ollama.Client) -> ollama.ChatResponse:
    return client.chat(model="mini", messages=[ASKED])


def post(server: str, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server}{path}", json=body, timeout=60)


def test_a_chat(whole: ollama.ChatResponse) -> None:
    assert whole.message.content == "cat"
    assert whole.message.thinking is not None
    assert whole.message.thinking.count("\n") == 1  # extraction and reasoning
    assert (whole.done, whole.done_reason) == (True, "stop")
    assert whole.prompt_eval_count is not None
    assert whole.prompt_eval_count > 126  # the image tokens, and the text around them
    assert whole.eval_count is not None
    assert whole.eval_duration is not None
    assert whole.eval_duration > 0


def test_a_streamed_chat(client: ollama.Client, whole: ollama.ChatResponse) -> None:
    parts = list(client.chat(model="mini:latest", messages=[ASKED], stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    thinking = "".join(part.message.thinking or "" for part in parts)
    assert thinking == whole.message.thinking
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 3


def test_a_text_of_a_picture(client: ollama.Client, whole: ollama.ChatResponse) -> None:
    told = client.generate(
        model="mini", prompt=QUESTION, images=[CAT.read_bytes()], think=False, options={"seed": 1}
    )
    assert told.response == whole.message.content
    assert told.thinking is None


def test_an_async_client(server: str, whole: ollama.ChatResponse) -> None:
    async def ask() -> str:
        client = ollama.AsyncClient(host=server)
        stream = await client.generate(model="mini", prompt=QUESTION, images=[IMAGE], stream=True)
        return "".join([part.response or "" async for part in stream])

    assert asyncio.run(ask()) == whole.message.content


def test_an_answer_by_a_schema(client: ollama.Client) -> None:
    told = client.chat(model="mini", messages=[ASKED], format=SCHEMA)
    assert json.loads(told.message.content or "") == {"seen": "cat"}


def test_a_conversation_without_a_picture(client: ollama.Client) -> None:
    messages = [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Is a cat an animal?"},
    ]
    told = client.chat(model="mini", messages=messages, options={"num_predict": 5})
    assert told.message.content
    assert told.prompt_eval_count


def test_a_budget_ends_an_answer(client: ollama.Client) -> None:
    asked = {**ASKED, "content": "Describe the picture."}
    told = client.chat(model="mini", messages=[asked], options={"num_predict": 1})
    assert told.message.content
    assert told.done_reason == "length"


def test_models_are_told_and_none_is_added(client: ollama.Client) -> None:
    (model,) = client.list().models
    assert model.model == "mini:latest"
    assert model.size is not None
    assert model.modified_at is not None
    shown = client.show("mini")
    assert shown.capabilities == ["completion", "vision"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 1024
    assert client.pull("mini").status == "success"
    assert [part.status for part in client.pull("mini", stream=True)] == ["success"]
    calls: list[Any] = [
        lambda: client.pull("llava"),
        lambda: list(client.pull("llava", stream=True)),
        lambda: client.delete("mini"),
        lambda: client.copy("mini", "other"),
        lambda: client.create("other", from_="mini"),
        lambda: client.push("mini"),
        lambda: client.embed("mini", "text"),
    ]
    for call in calls:
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert 400 <= caught.value.status_code < 500
        assert caught.value.error.count(" ") > 3  # a sentence


@pytest.mark.parametrize(
    "image",
    [
        "no base64!",
        base64.b64encode(b"no picture").decode(),
        base64.b64encode(b"%PDF-1.7\n" + bytes(3000)).decode(),
        "",
    ],
)
def test_what_is_no_picture_is_never_answered_without_it(server: str, image: str) -> None:
    message = {"role": "user", "content": QUESTION, "images": [IMAGE, image]}
    for streams in (True, False):
        for path, asked in (
            ("/api/chat", {"messages": [message]}),
            ("/api/generate", {"prompt": QUESTION, "images": [IMAGE, image]}),
        ):
            reply = post(server, path, {"model": "mini", "stream": streams, **asked})
            assert reply.status_code == 400
            assert "image" in reply.json()["error"] or "picture" in reply.json()["error"]


HOME_ASSISTANT_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "HassTurnOn",
            "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    }
]


@pytest.mark.parametrize("tools", [None, HOME_ASSISTANT_TOOLS], ids=["no tools", "tools"])
def test_home_assistant(server: str, tools: Any) -> None:
    async def ask() -> tuple[str, list[str]]:
        client = ollama.AsyncClient(host=server)
        model = (await client.list())["models"][0]["model"]
        stream = await client.chat(
            model=model,
            messages=[
                ollama.Message(role="system", content="You are a voice assistant."),
                ollama.Message(role="user", content=QUESTION, images=[ollama.Image(value=CAT)]),
            ],
            tools=tools,
            stream=True,
            keep_alive=-1,
            options={"num_ctx": 8192},
            think=False,
            format=SCHEMA,
        )
        text, roles = "", []
        async for response in stream:
            message = response["message"]
            assert message.get("tool_calls") is None
            assert message.get("thinking") is None
            text += message.get("content")
            roles.append(message["role"])
        return text, roles

    text, roles = asyncio.run(ask())
    assert json.loads(text) == {"seen": "cat"}
    assert set(roles) == {"assistant"}


def test_home_assistant_talks(client: ollama.Client) -> None:
    stream = client.chat(
        model="mini",
        messages=[
            ollama.Message(role="system", content="You are a voice assistant."),
            ollama.Message(role="user", content="Turn on the light."),
        ],
        tools=HOME_ASSISTANT_TOOLS,
        stream=True,
        keep_alive="60s",
        options={"num_ctx": 8192},
        think=None,
        format=None,
    )
    messages = [response["message"] for response in stream]
    assert all(message.get("tool_calls") is None for message in messages)
    assert "".join(message.get("content") for message in messages)


def test_llm_vision(server: str) -> None:
    body = {
        "model": "mini",
        "messages": [
            {"role": "user", "content": "Image 1:", "images": [IMAGE]},
            {"role": "user", "content": QUESTION},
        ],
        "system": "You describe what a camera shows.",
        "prompt": [],
        "stream": False,
        "keep_alive": "5m",
        "think": False,
        "options": {"num_predict": 3000, "temperature": 0.2, "top_p": 0.9, "num_ctx": 4096},
    }
    reply = post(server, "/api/chat", body)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    told = reply.json()
    assert told.get("message").get("content")
    assert told["prompt_eval_count"] > 126  # the picture was looked at


def test_frigate(server: str) -> None:
    client = ollama.Client(host=server, timeout=120)
    shown = client.show("mini")
    assert not shown.get("error")
    assert "thinking" not in shown.get("capabilities")
    told = client.chat(
        model="mini",
        messages=[
            {
                "role": "user",
                "content": f"{QUESTION}\nFirst:\n[img]\nThen:\n[img]",
                "images": [CAT.read_bytes()] * 2,
            }
        ],
        options={"temperature": 0.5, "repeat_penalty": 1.05, "presence_penalty": 0.3},
        format=SCHEMA,
    )
    assert told.get("done")
    assert json.loads(told["message"].get("content").strip()).keys() == {"seen"}
    counts = [
        client.chat(
            model="mini",
            messages=[{"role": "user", "content": ".", **images}],
            options={"num_predict": 1},
        ).get("prompt_eval_count")
        for images in ({}, {"images": [CAT.read_bytes()]})
    ]
    assert counts[1] - counts[0] > 100  # what an image takes


def test_photoprism(server: str) -> None:
    body = {
        "model": "mini:latest",
        "system": "You name what pictures show.",
        "prompt": QUESTION,
        "suffix": "",
        "format": "json",
        "options": {"temperature": 0.1, "top_p": 0.9, "stop": ["\n\n"]},
        "stream": False,
        "think": False,
        "images": [IMAGE],
    }
    told = post(server, "/api/generate", body).json()
    assert not told.get("error")
    text = told["response"] or told.get("thinking", "")
    assert isinstance(json.loads(text), dict)


def test_a_model_is_unloaded_and_comes_back(client: ollama.Client) -> None:
    assert client.generate(model="mini", keep_alive="10m").done_reason == "load"
    (running,) = client.ps().models
    assert (running.model, running.context_length) == ("mini:latest", 1024)
    assert running.expires_at is not None
    assert running.expires_at > datetime.now(UTC)
    assert client.chat(model="mini", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.chat(model="mini").done_reason == "load"
    assert len(client.ps().models) == 1
