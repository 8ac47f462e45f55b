"""What was wrong in other servers, and that it holds here.

Each case is named by an advisory or an issue of vLLM, llama.cpp, Ollama or a like server, and by
what that was about. What is sent is harmless: of the same kind, and beyond a limit of ours.
"""

import base64
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tiny.server import serving

KEY = "the key of this test"
HELLO: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Is a cat an animal?"}],
    "max_tokens": 1,
    "temperature": 0,
}
TEXT: dict[str, Any] = {
    "prompt": "Is a cat an animal?",
    "stream": False,
    "options": {"num_predict": 1, "temperature": 0},
}


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "green").save(file, "PNG")
    return file.getvalue()


def asks(*parts: dict[str, Any]) -> dict[str, Any]:
    return {**HELLO, "messages": [{"role": "user", "content": list(parts)}]}


def shows(url: str) -> dict[str, Any]:
    return asks({"type": "image_url", "image_url": {"url": url}})


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def answers_by(schema: object) -> dict[str, Any]:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {**HELLO, "response_format": wanted}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def text_of(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    text: str = choice["message"]["content"]
    return text


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("server")
    key = folder / "key"
    key.write_text(KEY)
    # uvicorn takes httptools where it is installed, which bounds no header; so it seems to be.
    (folder / "httptools.py").touch()
    hosts = ("--image-host", "localhost", "--image-host", "pictures.example")
    limits = ("--max-pixels", "10000", "--max-images", "2", "--max-body-bytes", "1000000")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        with (
            serving("--api-key-file", str(key), *hosts, *limits) as served,
            httpx.Client(base_url=served.address, timeout=60) as client,
        ):
            client.headers["Authorization"] = f"Bearer {KEY}"
            yield client


@pytest.fixture(scope="module")
def hello(client: httpx.Client) -> str:
    """What an ordinary request is answered."""
    return text_of(client.post("/v1/chat/completions", json=HELLO))


IMAGE = (400, "invalid_image")
INVALID = (400, "invalid_request")

REFUSED = {
    "CVE-2025-6242 vLLM: a picture's URL led to hosts of the inner network": (
        shows("http://localhost:9/a.png"),
        IMAGE,
        "address that is not public",
    ),
    "vllm#57157: any host was asked unless one was named": (
        shows("http://other.example/a.png"),
        IMAGE,
        "does not fetch from",
    ),
    "CVE-2026-24779 vLLM: two parsers read a URL's host differently": (
        shows("http://pictures\\example/a.png"),
        IMAGE,
        "does not fetch from",
    ),
    "sglang#17269: neither scheme nor address of a URL was looked at": (
        shows("ftp://pictures.example/a.png"),
        IMAGE,
        "neither a data URL",
    ),
    "LlamaFactory#8556: a picture's URL named a file of the server": (
        shows("file:///a.png"),
        IMAGE,
        "neither a data URL",
    ),
    "vllm#47010: a small file held more pixels than memory": (
        shows(data_url(png(101, 100))),
        IMAGE,
        "10100 pixels",
    ),
    "llama.cpp#14111: more pictures than fit were an inner error": (
        asks(*shows(data_url(png(8, 8)))["messages"][0]["content"] * 3),
        IMAGE,
        "more than 2 pictures",
    ),
    "CVE-2026-34755 vLLM: frames of a video were not counted": (
        shows(data_url(b"frame", "video/jpeg")),
        IMAGE,
        "says that it is no image",
    ),
    "CVE-2026-5497 vLLM: likewise, as a part of its own": (
        asks({"type": "video_url", "video_url": {"url": data_url(b"frame", "video/jpeg")}}),
        INVALID,
        "texts and images alone",
    ),
    "CVE-2025-62372 vLLM: embeddings of a picture had any shape": (
        asks({"type": "image_embeds", "image_embeds": "AAAA"}),
        INVALID,
        "texts and images alone",
    ),
    "CVE-2024-8768 vLLM: a prompt without a word ended the server": (
        asks({"text": "  "}),
        INVALID,
        "asks nothing",
    ),
    "CVE-2026-34756 vLLM: n had no limit": ({**HELLO, "n": 2}, INVALID, "n is more than 1"),
    "CVE-2026-54235 vLLM: temperature was no number in a range": (
        {**HELLO, "temperature": 11},
        INVALID,
        "0 to 10",
    ),
    "local-inference-lab/vllm#264: all of the vocabulary was told": (
        {**HELLO, "logprobs": True, "top_logprobs": 21},
        INVALID,
        "0 to 20",
    ),
    "CVE-2025-48942 vLLM: a schema that cannot be used ended the server": (
        answers_by({"type": "object", "properties": {f"p{i}": True for i in range(257)}}),
        INVALID,
        "257 are too many",
    ),
    "CVE-2025-48943 vLLM: likewise a pattern": (
        answers_by({"type": "string", "pattern": "^[ab]{500}$"}),
        INVALID,
        "as many as the schema needs",
    ),
    "CVE-2026-2069 llama.cpp: a nested grammar overran the stack": (
        answers_by(nested(33)),
        INVALID,
        "more than 32 schemas",
    ),
    "llama.cpp#19051: where a schema cannot be used, the answer was free": (
        answers_by({"type": "array", "uniqueItems": True}),
        INVALID,
        "no answer can be held to",
    ),
}


@pytest.mark.parametrize(("body", "told", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(
    client: httpx.Client, hello: str, body: dict[str, Any], told: tuple[int, str], words: str
) -> None:
    reply = client.post("/v1/chat/completions", json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == told, reply.text
    assert words in error["message"]
    assert text_of(client.post("/v1/chat/completions", json=HELLO)) == hello


UNREAD = {
    "CVE-2024-8939 vLLM: best_of had no limit": {"best_of": 2},
    "CVE-2025-61620 vLLM: a client's chat template was run": {"chat_template": "other"},
    "CVE-2025-62426 vLLM: arguments of the template were the client's": {
        "chat_template_kwargs": {"tokenize": False, "chat_template": "other"}
    },
    "CVE-2025-62164 vLLM: tensors of a request were unpacked": {"prompt_embeds": "AAAA"},
    "CVE-2025-48944 vLLM: a tool's type and pattern were compiled": {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "parameters": {"type": "object", "properties": {"a": {"pattern": "^a$"}}},
                },
            }
        ]
    },
    "CVE-2026-44223 vLLM: penalties ended the server": {"repetition_penalty": 1.0},
    "vllm#16529: logit_bias was an index": {"logit_bias": {"1": 1}},
    "vllm#54195: stop_token_ids were indices": {"stop_token_ids": [1], "min_tokens": 1},
    "CVE-2026-21869 llama.cpp: n_discard moved the cache": {"n_discard": 1},
    "llama.cpp#24017: n_cmpl and numbers of samplers had no limit": {
        "n_cmpl": 2,
        "dry_allowed_length": 2,
    },
    "llama.cpp#26600: a client's grammar was parsed without a limit": {
        "grammar": 'root ::= "other"'
    },
}


@pytest.mark.parametrize("fields", UNREAD.values(), ids=UNREAD)
def test_it_is_not_read(client: httpx.Client, hello: str, fields: dict[str, Any]) -> None:
    assert text_of(client.post("/v1/chat/completions", json={**HELLO, **fields})) == hello


def test_ollama_3583_num_ctx_of_a_request_is_not_read(client: httpx.Client, hello: str) -> None:
    options = {**TEXT["options"], "num_ctx": 256}
    told = client.post("/api/generate", json={**TEXT, "options": options}).json()
    assert told["response"] == hello


OLLAMA = {
    "CVE-2024-37032: a digest was a path": ("blobs/sha256:00", b"file", 403),
    "CVE-2026-7482: an uploaded GGUF was trusted": ("blobs/sha256:01", b"GGUF", 403),
    "CVE-2024-39720: likewise, one that was cut short": ("create", {"files": {"a.gguf": ""}}, 403),
    "CVE-2024-45436: an archive held paths": ("create", {"files": {"a.zip": ""}}, 403),
    "CVE-2024-39721: a model was read from any file": ("create", {"path": "/"}, 403),
    "CVE-2025-44779: pull removed files": ("pull", {"model": "other/model"}, 404),
    "CVE-2026-5530: pull asked any host": ("pull", {"model": "localhost:9/other/model"}, 404),
    "CVE-2025-15514: base64 that is none ended the runner": (
        "generate",
        {"prompt": "What is this?", "images": ["not base64!"]},
        400,
    ),
    "ollama#2367: a picture that is none hung": (
        "generate",
        {"prompt": "What is this?", "images": ["bm9uZQ=="]},
        400,
    ),
}


@pytest.mark.parametrize(("path", "body", "status"), OLLAMA.values(), ids=OLLAMA)
def test_ollama(
    client: httpx.Client, hello: str, path: str, body: bytes | dict[str, Any], status: int
) -> None:
    content = body if isinstance(body, bytes) else json.dumps({"model": "mini", **body})
    reply = client.post(f"/api/{path}", content=content)
    assert reply.status_code == status, reply.text
    assert isinstance(reply.json()["error"], str)
    assert text_of(client.post("/v1/chat/completions", json=HELLO)) == hello


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("push", id="CVE-2024-39722 Ollama: push told which files are there"),
        pytest.param("create", id="CVE-2024-39719 Ollama: likewise create"),
        pytest.param("show", id="and show"),
    ],
)
def test_no_reply_tells_whether_a_file_is_there(
    client: httpx.Client, path: str, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.touch()
    told = [
        client.post(f"/api/{path}", json={"model": str(name), "path": str(name)})
        for name in (there, tmp_path / "missing")
    ]
    assert told[0].text == told[1].text
    assert told[0].status_code == told[1].status_code >= 400


def test_cve_2026_22778_vllm_errors_tell_no_address(client: httpx.Client) -> None:
    for kind in ("image/png", "image/jpeg"):
        reply = client.post("/v1/chat/completions", json=shows(data_url(b"no picture", kind)))
        assert (reply.status_code, reply.json()["error"]["code"]) == IMAGE
        assert "0x" not in reply.text
        assert "object at" not in reply.text


def test_cve_2026_44222_vllm_a_text_is_no_picture(client: httpx.Client) -> None:
    text = {"type": "text", "text": "<image> [img] <__media__> <|im_end|> What is this?"}
    told = client.post("/v1/chat/completions", json=asks(text)).json()["usage"]
    assert (told["pictures"], told["prompt_tokens_details"]["image_tokens"]) == (0, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/props"),
        ("GET", "/v1/models/health"),
        ("GET", "/health/"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/api/create"),
        ("POST", "/api/pull"),
        ("DELETE", "/api/delete"),
        ("GET", "/"),
        ("GET", "/edge-et/server"),
        ("POST", "/edge-et/ask"),
    ],
)
def test_cve_2025_63389_ollama_and_cve_2026_48746_vllm_nothing_is_told_without_the_key(
    client: httpx.Client, method: str, path: str
) -> None:
    """However much of the key is right (CVE-2025-59425 of vLLM)."""
    replies = [
        client.request(method, path, headers={"Authorization": f"Bearer {key}"})
        for key in ("x", "x" + KEY[1:], KEY[:-1] + "x", KEY[:-1], KEY + "x")
    ]
    assert {reply.status_code for reply in replies} == {401}
    assert len({reply.text for reply in replies}) == 1


def test_cve_2024_28224_ollama_a_page_under_another_name_is_refused(client: httpx.Client) -> None:
    reply = client.get("/api/tags", headers={"Host": "page.example"})
    assert reply.status_code == 421


def test_llama_cpp_25606_a_page_of_another_origin_is_refused(client: httpx.Client) -> None:
    page = {"Origin": "https://page.example"}
    reply = client.post("/v1/chat/completions", json=HELLO, headers=page)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "unknown_origin")
    assert "access-control-allow-origin" not in reply.headers
    assert client.options("/v1/chat/completions", headers=page).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/v1/invocations", id="CVE-2026-22778 vLLM: a second door had no key"),
        pytest.param("/tokenize", id="CVE-2025-62426 vLLM: it worked on texts of any length"),
    ],
)
def test_doors_that_are_not_there(client: httpx.Client, path: str) -> None:
    assert client.post(path, json=HELLO).status_code == 404


def test_cve_2025_48956_vllm_headers_are_bounded(client: httpx.Client) -> None:
    assert client.get("/health", headers={"X-Long": "a" * 10_000}).status_code == 200
    address = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 2**19)
        assert b" 400 " in connection.recv(100)


def test_sglang_17269_a_body_is_bounded(client: httpx.Client) -> None:
    reply = client.post("/v1/chat/completions", json={**HELLO, "user": "a" * 10**6})
    assert reply.status_code == 413
