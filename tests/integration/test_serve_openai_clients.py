"""Real clients of the OpenAI protocol: `edge-et serve` with the mini, and what they send.

Bodies are shaped as the clients named send them, and replies read as those read them.
"""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image
from tiny.places import ROOT
from tiny.server import serving

CAT_URL = (
    "data:image/png;base64,"
    + base64.b64encode((ROOT / "examples" / "cat.png").read_bytes()).decode()
)
QUESTION = "What is this?"
PICTURE = {"type": "image_url", "image_url": {"url": CAT_URL}}
ASKED = {"role": "user", "content": [{"type": "text", "text": QUESTION}, PICTURE]}
PDF = base64.b64encode(b"%PDF-1.7\n" + bytes(3000)).decode()
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "HassTurnOn",
            "description": "Turns on a device",
            "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    }
]
STRUCTURE = {
    "type": "json_schema",
    "json_schema": {
        "name": "porch_check",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "seen": {"description": "What is there", "type": "string"},
                "is_animal": {"type": "boolean"},
            },
            "required": ["seen", "is_animal"],
        },
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as served:
        yield served.address


def post(server: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server}/v1/chat/completions", json=body, timeout=60)


LLM_VISION = {
    "model": "mini",
    "messages": [
        {"role": "system", "content": "Answer in one word."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Image 1:"},
                PICTURE,
                {"type": "text", "text": QUESTION},
            ],
        },
    ],
    "max_completion_tokens": 3000,
    "temperature": 0,
    "top_p": 0.9,
}

LLM_VISION_TITLE = {
    "model": "mini",
    "messages": [
        {"role": "user", "content": "Give a short title for this event."},
        {"role": "user", "content": "A cat is on the sofa."},
    ],
    "max_completion_tokens": 3000,
    "temperature": 0,
}

FRIGATE = {
    "model": "mini",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": QUESTION},
                {"type": "image_url", "image_url": {"url": CAT_URL, "detail": "low"}},
            ],
        }
    ],
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "review",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"title": {"type": "string"}, "level": {"enum": [0, 1, 2]}},
                "required": ["title", "level"],
                "additionalProperties": False,
            },
        },
    },
}

HOME_ASSISTANT = {
    "model": "mini",
    "messages": [
        {"role": "system", "content": "You are a voice assistant."},
        {"role": "user", "content": "Hello"},
    ],
    "tools": TOOLS,
    "max_tokens": 8,
    "top_p": 1.0,
    "temperature": 0,
    "user": "01ABC",
    "stream": False,
}

FRIGATE_LLAMA_CPP = {
    "model": "mini",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": QUESTION},
                {"type": "text", "text": "Before:"},
                PICTURE,
                {"type": "text", "text": "After:"},
                PICTURE,
            ],
        }
    ],
    "response_format": FRIGATE["response_format"],
    "max_tokens": 60,  # an option that users add
}

IMMICH_ANALYZE = {"model": "mini", "messages": [ASKED], "stream": False}

OPEN_WEBUI_TITLE = {
    "model": "mini",
    "messages": [{"role": "user", "content": "### Task:\nGenerate a title for: hello there"}],
    "stream": False,
    "max_completion_tokens": 1000,
}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(LLM_VISION, id="LLM Vision"),
        pytest.param(LLM_VISION_TITLE, id="LLM Vision's title"),
        pytest.param(FRIGATE, id="Frigate"),
        pytest.param(FRIGATE_LLAMA_CPP, id="Frigate's llamacpp"),
        pytest.param(HOME_ASSISTANT, id="Home Assistant"),
        pytest.param(IMMICH_ANALYZE, id="immich-analyze"),
        pytest.param(OPEN_WEBUI_TITLE, id="Open WebUI's title"),
    ],
)
def test_what_clients_send_is_answered(server: str, body: dict[str, Any]) -> None:
    reply = post(server, body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("application/json")
    choice = reply.json()["choices"][0]
    assert choice["message"]["content"].strip()
    assert choice["finish_reason"] in ("stop", "length")
    if "response_format" in body:
        assert set(json.loads(choice["message"]["content"])) == {"title", "level"}
    assert reply.headers.get("x-edge-et-ignored") == ("tools" if "tools" in body else None)


async def text_of(stream: AsyncIterator[Any], *, stops_reading: bool) -> str:
    """Join the deltas as Home Assistant does, whose llama.cpp integration stops at the end."""
    text, roles = "", []
    async for chunk in stream:
        if not chunk.choices:
            continue
        choice = chunk.choices[0]
        if choice.finish_reason and stops_reading:
            break
        assert not choice.delta.tool_calls
        roles.append(choice.delta.role)
        text += choice.delta.content or ""
    assert roles[0] == "assistant"
    return text


def task_of(*attachments: dict[str, Any]) -> list[Any]:
    return [
        {"role": "system", "content": "You are a Home Assistant expert."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}, *attachments]},
    ]


@pytest.mark.parametrize(
    ("streams", "tools"),
    [
        pytest.param(True, openai.Omit(), id="streamed"),
        pytest.param(False, TOOLS, id="whole, with tools"),
    ],
)
def test_home_assistant_llama_cpp_sees_a_camera(server: str, streams: bool, tools: Any) -> None:
    picture = {"type": "image_url", "image_url": {"url": CAT_URL, "detail": "auto"}}

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="sk-none") as client:
            told: Any = await client.chat.completions.create(
                model="mini",
                messages=task_of(picture),
                tools=tools,
                response_format=STRUCTURE,  # type: ignore[arg-type]
                max_tokens=60,
                top_p=1.0,
                temperature=0.7,
                user="01JABC",
                stream=streams,
            )
            if not streams:
                return str(told.choices[0].message.content)
            return await text_of(told, stops_reading=True)

    data = json.loads(asyncio.run(ask()))
    assert isinstance(data["seen"], str)
    assert isinstance(data["is_animal"], bool)


def test_home_assistant_open_router_sees_a_camera(server: str) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(
                model="mini",
                messages=task_of(PICTURE),
                user="01JABC",
                response_format=STRUCTURE,  # type: ignore[arg-type]
                extra_headers={"X-Title": "Home Assistant"},
                extra_body={"provider": {"require_parameters": True}, "tools": TOOLS},
                stream=True,
            )
            return await text_of(stream, stops_reading=False)

    assert json.loads(asyncio.run(ask())).keys() == {"seen", "is_animal"}


def test_home_assistant_checks_a_model_before_it_is_added(server: str) -> None:
    asked: dict[str, Any] = {
        "model": "mini",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "tools": TOOLS,
        "max_tokens": 3,
    }

    async def check() -> tuple[list[str], Any, str]:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="sk-none") as client:
            names = [model.id async for model in await client.models.list()]
            told = await client.chat.completions.create(**asked, stream=False)
            stream = await client.chat.completions.create(**asked, stream=True)
            return names, told, await text_of(stream, stops_reading=True)

    names, told, streamed = asyncio.run(check())
    assert names == ["mini"]
    assert told.choices[0].message.content == streamed
    assert streamed


@pytest.mark.parametrize(
    "attachment",
    [
        pytest.param({"type": "text", "text": f"[File: bill.pdf]\nContent: {PDF}"}, id="llama_cpp"),
        pytest.param(
            {"type": "image_url", "image_url": {"url": f"data:application/pdf;base64,{PDF}"}},
            id="open_router",
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PDF}"}},
            id="called a picture",
        ),
        pytest.param(
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}},
            id="file",
        ),
    ],
)
@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
def test_an_attachment_that_is_no_picture_is_refused(
    server: str, attachment: dict[str, Any], streams: bool
) -> None:
    reply = post(server, {"messages": task_of(attachment), "stream": streams})
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert "image" in message or "picture" in message
    assert PDF[:50] not in message


def test_frigate_llama_cpp_learns_what_a_model_can(server: str) -> None:
    (model,) = httpx.get(f"{server}/v1/models").json()["data"]
    assert "mini" in {model["id"], *model["aliases"]}
    assert "image" in model["architecture"]["input_modalities"]
    assert int(model["meta"]["n_ctx"]) == 1024
    props = httpx.get(f"{server}/props", params={"model": "mini"}).json()
    assert props["chat_template_caps"]["supports_tools"] is False
    assert "enable_thinking" not in props["chat_template"]
    assert props["media_marker"]

    grey = io.BytesIO()
    Image.new("RGB", (640, 360), (128, 128, 128)).save(grey, format="JPEG", quality=60)
    url = "data:image/jpeg;base64," + base64.b64encode(grey.getvalue()).decode()
    dot = {"type": "text", "text": "."}
    counts = [
        post(
            server,
            {
                "model": "mini",
                "messages": [{"role": "user", "content": content}],
                "max_tokens": 1,
            },
        ).json()["usage"]["prompt_tokens"]
        for content in ([dot], [dot, {"type": "image_url", "image_url": {"url": url}}])
    ]
    assert counts[1] - counts[0] > 100  # what an image takes


def test_frigate_llama_cpp_chats(server: str) -> None:
    body = {
        "messages": [{"role": "user", "content": "Was anybody at the door?"}],
        "model": "mini",
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
        "tools": TOOLS,
        "tool_choice": "auto",
    }
    lines = post(server, body).text.splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    chunks = [json.loads(each) for each in data]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas)
    assert chunks[-1]["usage"]["prompt_tokens"] > 0
    assert chunks[-1]["usage"]["completion_tokens"] > 0
