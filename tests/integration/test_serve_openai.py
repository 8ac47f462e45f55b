"""The OpenAI protocol as clients speak it: `edge-et serve` with the mini, and real requests."""

import asyncio
import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tiny.places import ROOT
from tiny.server import serving

import edge_et

CAT = ROOT / "examples" / "cat.png"
CAT_URL = "data:image/png;base64," + base64.b64encode(CAT.read_bytes()).decode()
QUESTION = "What is this?"
PICTURE = {"type": "image_url", "image_url": {"url": CAT_URL}}
ASKED = {"role": "user", "content": [{"type": "text", "text": QUESTION}, PICTURE]}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as served:
        yield served.address


@pytest.fixture(scope="module")
def answer() -> edge_et.Answer:
    """What the pipeline itself says of the cat."""
    with edge_et.load() as pipe:
        return pipe.answer(CAT, QUESTION)


@pytest.fixture
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


def post(server: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(f"{server}/v1/chat/completions", json=body, headers=headers, timeout=60)


def test_a_completion_is_the_answer(client: openai.OpenAI, answer: edge_et.Answer) -> None:
    told = client.chat.completions.create(model="mini", messages=[ASKED])  # type: ignore[list-item]
    (choice,) = told.choices
    assert choice.message.content == answer.text
    assert choice.finish_reason == "stop"
    reasoning = choice.message.reasoning_content  # type: ignore[attr-defined]
    assert reasoning == f"{answer.extraction}\n{answer.reasoning}"
    assert told.model == "mini"
    assert told.usage is not None
    assert told.usage.prompt_tokens > 126  # the image tokens, and the text around them
    assert told.usage.model_extra is not None
    assert told.usage.model_extra["pictures"] == 1


def test_a_stream_is_the_answer(client: openai.OpenAI, answer: edge_et.Answer) -> None:
    chunks = list(
        client.chat.completions.create(
            model="mini",
            messages=[ASKED],  # type: ignore[list-item]
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *parts, last = chunks
    deltas = [part.choices[0].delta for part in parts]
    assert "".join(delta.content or "" for delta in deltas) == answer.text
    reasoning = "".join(getattr(delta, "reasoning_content", "") for delta in deltas)
    assert reasoning == f"{answer.extraction}\n{answer.reasoning}"
    assert [part.choices[0].finish_reason for part in parts if part.choices[0].finish_reason] == [
        "stop"
    ]
    assert last.usage is not None
    # The picture was asked about before, so it is known.
    assert last.usage.prompt_tokens_details is not None
    assert (last.usage.prompt_tokens_details.cached_tokens or 0) > 126


def test_an_async_client(server: str, answer: edge_et.Answer) -> None:
    async def ask() -> str | None:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none") as client:
            messages: Any = [ASKED]
            told = await client.chat.completions.create(model="mini", messages=messages)
        return told.choices[0].message.content

    assert asyncio.run(ask()) == answer.text


def test_curl(server: str, answer: edge_et.Answer, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"messages": [ASKED], "stream": True}))
    url = f"{server}/v1/chat/completions"
    command = ["curl", "--silent", "--fail", "--no-buffer", "--data", f"@{body}", url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.removeprefix("data: ") for line in told.splitlines() if line]
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == answer.text


def test_models_and_properties(client: openai.OpenAI, server: str) -> None:
    (model,) = client.models.list().data
    assert model.id == "mini"
    assert client.models.retrieve("mini").id == "mini"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    props = httpx.get(f"{server}/props").json()
    assert props["modalities"]["vision"] is True
    assert props["default_generation_settings"]["n_ctx"] == 1024
    assert httpx.get(f"{server}/health").json() == {"status": "ok"}


def test_an_answer_by_a_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"seen": {"type": "string", "maxLength": 20}},
        "required": ["seen"],
        "additionalProperties": False,
    }
    told = client.chat.completions.create(
        model="mini",
        messages=[ASKED],  # type: ignore[list-item]
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "strict": True, "schema": schema},
        },
    )
    assert json.loads(told.choices[0].message.content or "") == {"seen": "cat"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"messages": []}, 400, "invalid_request"),
        ({"model": "other"}, 404, "model_not_found"),
        ({"messages": [{"role": "user", "content": "a " * 3000}]}, 400, "context_length_exceeded"),
        (
            {"messages": [{"role": "user", "content": [PICTURE, {"text": "a " * 3000}]}]},
            400,
            "context_length_exceeded",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
                            {"text": QUESTION},
                        ],
                    }
                ]
            },
            400,
            "invalid_image",
        ),
        ({"tools": [{}], "tool_choice": "required"}, 400, "unsupported_tool_choice"),
        ({"temperature": "hot"}, 400, "invalid_request"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_what_cannot_be_answered_is_refused(
    server: str, change: dict[str, Any], status: int, code: str, streams: bool
) -> None:
    reply = post(server, {"messages": [ASKED], "stream": streams, **change})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
    assert str(ROOT) not in reply.text


def test_a_body_that_is_no_json_object(server: str) -> None:
    for body in (b"", b"{", b"[]", b'"text"', b"\xff", b'{"messages": NaN}'):
        reply = httpx.post(f"{server}/v1/chat/completions", content=body)
        assert reply.status_code == 400, body


def test_a_client_that_hangs_up_ends_its_call(server: str, answer: edge_et.Answer) -> None:
    url = f"{server}/v1/chat/completions"
    body = {"messages": [as_new(ASKED, 1)], "stream": True}
    with httpx.stream("POST", url, json=body, timeout=60) as reply:
        next(reply.iter_lines())
    body = {"messages": [as_new(ASKED, 2)], "stream": False}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=body, timeout=httpx.Timeout(60, read=0.02))
    told = post(server, {"messages": [ASKED]}).json()
    assert told["choices"][0]["message"]["content"] == answer.text
    metrics = httpx.get(f"{server}/metrics").text
    assert "edge_et_requests_under_way 0.0" in metrics


def test_a_stream_ends_well_where_the_server_is_stopped(answer: edge_et.Answer) -> None:
    with serving() as served:
        url = f"{served.address}/v1/chat/completions"
        body = {"messages": [ASKED], "stream": True}
        with httpx.stream("POST", url, json=body, timeout=60) as reply:
            lines = reply.iter_lines()
            first = next(lines)
            served.process.terminate()
            # Others are comments, which a slow machine has time for.
            told = [line[6:] for line in [first, *lines] if line.startswith("data: ")]
    assert told[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in told[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == answer.text


def as_new(message: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a message with another question, for which nothing is cached."""
    return {**message, "content": [{"type": "text", "text": f"Number {number}?"}, PICTURE]}
