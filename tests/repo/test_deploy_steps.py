"""The steps of the container and of the Home Assistant app, in a bare Debian."""

import json
import os
import runpy
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny.bare_debian import Root, first_of, make_archive, what_is_missing
from tiny.containerfile import Stage, read_stages
from tiny.places import EXAMPLES, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing()),
]

CONTAINERFILE = ROOT / "deploy" / "Containerfile"
PYTHON = "/opt/edge-et/bin/python"
PATIENCE_S = 120

# Tells when the answer begins, then what it was. In: the picture. Arguments: host, key.
ASK = """
import base64, http.client, json, sys
host, key = sys.argv[1:]
url = "data:image/png;base64," + base64.b64encode(sys.stdin.buffer.read()).decode()
content = [{"type": "text", "text": "What is this?"}]
content += [{"type": "image_url", "image_url": {"url": url}}]
body = {"model": "mini", "stream": True, "messages": [{"role": "user", "content": content}]}
headers = {"Host": host, "Content-Type": "application/json"}
if key:
    headers["Authorization"] = f"Bearer {key}"
connection = http.client.HTTPConnection("127.0.0.1", 8890, timeout=100)
connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
reply = connection.getresponse()
if reply.status != 200:
    sys.exit(f"{reply.status} {reply.read().decode()}")
text = ""
for line in reply:
    data = line.decode().strip().removeprefix("data: ")
    if data == "[DONE]":
        print(text)
    elif data.startswith("{"):
        print("begun", flush=True)
        for choice in json.loads(data)["choices"]:
            text += choice["delta"].get("content") or ""
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian of the images."""
    images = {stage.image for stage in read_stages(CONTAINERFILE)}
    (suite,) = {image.partition(":")[2].removesuffix("-slim") for image in images}
    path = tmp_path_factory.mktemp("debian") / "debian.tar"
    make_archive(suite, path)
    return path


def build(containerfile: Path, context: Path, archive: Path, folder: Path) -> tuple[Root, Stage]:
    """Return the root of the last stage, and this stage."""
    roots: dict[str, Root] = {}
    for stage in read_stages(containerfile):
        root = Root(folder / (stage.name or "last"), archive)
        root.build(stage, context, roots)
        roots[stage.name] = root
    return root, stage


@contextmanager
def started(root: Root, words: list[str], **how: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server until the block ends."""
    process = root.start(words, **how)
    check = [PYTHON, "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8890/health')"]
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < until, "the server does not say that it is well"
            time.sleep(0.2)  # also for the namespaces to be there
            done = subprocess.run(root.beside(process, check), capture_output=True, check=False)
            if done.returncode == 0:
                break
        yield process
    finally:
        # The first process takes its namespaces with it. The death of the one that waits for it
        # would not reach a server that has changed its user.
        if process.poll() is None:
            os.kill(first_of(process), signal.SIGKILL)
        process.communicate()


def ask(
    root: Root, server: subprocess.Popen[str], host: str = "localhost", key: str = ""
) -> subprocess.Popen[bytes]:
    """Begin to ask about a picture."""
    with (EXAMPLES / "cat.png").open("rb") as picture:
        return subprocess.Popen(
            root.beside(server, [PYTHON, "-c", ASK, host, key]),
            stdin=picture,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def owner_of(server: subprocess.Popen[str]) -> int:
    return os.stat(f"/proc/{first_of(server)}").st_uid


def test_the_container_answers_and_ends_well(archive: Path, tmp_path: Path) -> None:
    root, stage = build(CONTAINERFILE, ROOT, archive, tmp_path)
    (user,) = stage.values("USER")
    with started(root, stage.words("ENTRYPOINT"), user=user) as server:
        assert owner_of(server) != 0
        healthy = subprocess.run(root.beside(server, stage.words("HEALTHCHECK")), check=False)
        assert healthy.returncode == 0
        asking = ask(root, server)
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"begun\n", asking.communicate()
        # What `docker stop` sends, to the first process of the container.
        os.kill(first_of(server), signal.SIGTERM)
        out, err = asking.communicate(timeout=PATIENCE_S)
        assert out.splitlines()[-1] == b"cat", err
        assert server.wait(PATIENCE_S) in (0, 128 + signal.SIGTERM, -signal.SIGTERM)


def test_the_app_answers_whom_it_should(archive: Path, tmp_path: Path) -> None:
    app = tmp_path / "edge_et"
    runpy.run_path(str(ROOT / "scripts" / "make_home_assistant_app.py"))["make"](app)
    root, stage = build(app / "Dockerfile", app, archive, tmp_path)
    options = {"bundles": ["mini"], "deadline_s": 50, "hosts": ["ha.lan"], "api_key": "secret"}
    root.at("/data").mkdir()
    given = root.at("/data/options.json")
    given.write_text(json.dumps(options))
    given.chmod(0o600)
    with started(root, stage.words("CMD"), hostname="local-edge-et") as server:
        assert owner_of(server) != 0
        for host in ("local-edge-et:8890", "ha.lan"):
            out, err = ask(root, server, host, "secret").communicate(timeout=PATIENCE_S)
            assert out.splitlines()[-1:] == [b"cat"], err
        _, err = ask(root, server, "ha.lan").communicate(timeout=PATIENCE_S)
        assert err.startswith(b"401")
        _, err = ask(root, server, "elsewhere.example", "secret").communicate(timeout=PATIENCE_S)
        assert err.startswith(b"421")
