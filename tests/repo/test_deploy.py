"""Whether what `deploy/` says can be done: files are read as their readers read them."""

import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tiny.containerfile import Stage, read_stages
from tiny.places import ROOT

from edge_et.cli.app import app

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "edge-et.service"
CONTAINERFILE = DEPLOY / "Containerfile"
APP = DEPLOY / "home-assistant" / "edge_et"
DOCKERFILE = APP / "Dockerfile"
PROGRAM = "/opt/edge-et/bin/edge-et"
PORT = 8890

# Those of https://developers.home-assistant.io/docs/apps/configuration that we have use for.
APP_KEYS = {"arch", "description", "init", "map", "name", "options", "ports", "schema", "slug"}
APP_KEYS |= {"stage", "startup", "timeout", "version", "watchdog"}
MAPS = {"homeassistant_config", "ssl", "backup", "share", "media", "data"}


def check_serve(words: list[str]) -> None:
    """Check that a command line starts the server with options that it has."""
    assert words[:2] == [PROGRAM, "serve"]
    serve = app.commands["serve"]
    try:
        serve.make_context("serve", words[2:])
    except click.UsageError as err:
        pytest.fail(f"{words}: {err.format_message()}")


def unit_lines() -> dict[str, list[str]]:
    """Return the values of the unit's service, by key."""
    _, _, service = UNIT.read_text().partition("[Service]\n")
    found: dict[str, list[str]] = {}
    for line in service.partition("[Install]")[0].splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_the_unit_starts_the_server() -> None:
    (line,) = unit_lines()["ExecStart"]
    words = shlex.split(line)
    assert words.pop() == "$OPTIONS"
    check_serve(words)


def test_the_unit_lets_answers_end_and_bounds_the_memory() -> None:
    lines = unit_lines()
    serve = app.commands["serve"]
    deadline_s = next(option.default for option in serve.params if option.name == "deadline_s")
    assert int(lines["TimeoutStopSec"][0]) > deadline_s
    assert lines["MemoryMax"]
    assert lines["DynamicUser"] == ["yes"]


def test_the_unit_gives_up_where_no_start_can_succeed() -> None:
    lines = unit_lines()
    assert lines["RestartPreventExitStatus"] == [str(click.UsageError.exit_code)]
    limits = dict(re.findall(r"^(StartLimit\w+)=(\d+)$", UNIT.read_text(), re.MULTILINE))
    begins_s = int(lines["RestartSec"][0]) + 5  # a start that fails takes less than these
    assert int(limits["StartLimitBurst"]) * begins_s <= int(limits["StartLimitIntervalSec"])


def test_the_unit_has_threads_for_all_who_may_wait() -> None:
    serve = app.commands["serve"]
    defaults = {option.name: option.default for option in serve.params}
    calls = defaults["max_waiting"] + defaults["contexts"]
    assert int(unit_lines()["TasksMax"][0]) >= 4 * calls  # cores have threads, too


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr  # what is ignored, too


def test_systemd_would_find_what_is_wrong(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true").replace("Nice=", "Nicer="))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert unit.name in done.stderr


@pytest.fixture(scope="module")
def app_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app as its script makes it."""
    folder = tmp_path_factory.mktemp("apps") / "edge_et"
    make = runpy.run_path(str(ROOT / "scripts" / "make_home_assistant_app.py"))["make"]
    make(folder)
    return folder


def last_stage(path: Path) -> Stage:
    return read_stages(path)[-1]


@pytest.mark.parametrize("path", [CONTAINERFILE, DOCKERFILE], ids=lambda path: path.name)
def test_images_install_what_the_script_knows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = [line for line in read_stages(path)[0].values("RUN") if "install.py" in line]
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = runpy.run_path(str(ROOT / "scripts" / "install.py"))
    *program, what = shlex.split(line)
    assert program == ["python3", "scripts/install.py", str(Path(PROGRAM).parents[1])]
    assert what == "serve"
    assert what in script["WHATS"]


@pytest.mark.parametrize("path", [CONTAINERFILE, DOCKERFILE], ids=lambda path: path.name)
def test_images_hold_what_is_made_of_weights(path: Path) -> None:
    stage = last_stage(path)
    (line,) = [line for line in stage.values("RUN") if PROGRAM in line]
    user = re.findall(r"--re[ug]id (\S+)", line)
    assert set(user) == {"edge-et"}
    assert shlex.split(line)[-2:] == [PROGRAM, "doctor"]
    (home,) = re.findall(r"--create-home --home-dir (\S+) edge-et", " ".join(stage.values("RUN")))
    assert home.startswith("/var/")


@pytest.mark.parametrize("path", [CONTAINERFILE, DOCKERFILE], ids=lambda path: path.name)
def test_images_copy_what_is_there(path: Path, app_folder: Path) -> None:
    context = ROOT if path == CONTAINERFILE else app_folder
    names = {stage.name for stage in read_stages(path)}
    for stage in read_stages(path):
        for other, sources, _ in stage.copies():
            assert not other or other in names
            assert other or all((context / source).exists() for source in sources)


def test_both_images_install_the_same_sources(app_folder: Path) -> None:
    copied = set()
    for _, sources, _ in read_stages(CONTAINERFILE)[0].copies():
        copied.update(sources)
    made = runpy.run_path(str(ROOT / "scripts" / "make_home_assistant_app.py"))["SOURCES"]
    assert set(made) == copied
    for name in made:
        assert (app_folder / "source" / name).exists()


def test_the_sources_of_the_images_hold_every_package() -> None:
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (stage, _) = read_stages(CONTAINERFILE)
    copied = {source for _, sources, _ in stage.copies() for source in sources}
    assert set(folders["tool"]["setuptools"]["package-dir"].values()) <= copied


def test_the_container_serves_as_nobody_and_is_watched() -> None:
    stage = last_stage(CONTAINERFILE)
    check_serve(stage.words("ENTRYPOINT"))
    assert stage.values("USER") == ["edge-et"]
    assert stage.values("EXPOSE") == [str(PORT)]
    (check,) = [word for word in stage.words("HEALTHCHECK") if "http" in word]
    assert f"http://127.0.0.1:{PORT}/health" in check


def test_the_port_is_the_servers_own() -> None:
    options = app.commands["serve"].params
    assert next(option.default for option in options if option.name == "port") == PORT


def test_the_app_says_what_the_supervisor_knows() -> None:
    config = yaml.safe_load((APP / "config.yaml").read_text())
    assert set(config) <= APP_KEYS
    assert {"name", "version", "slug", "description", "arch"} <= set(config)
    assert set(config["arch"]) == {"aarch64", "amd64"}
    assert {entry["type"] for entry in config["map"]} <= MAPS
    assert list(config["ports"]) == [f"{PORT}/tcp"]
    assert config["watchdog"] == f"http://[HOST]:[PORT:{PORT}]/health"
    assert config["timeout"] > config["options"]["deadline_s"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert config["version"] == project["version"]


def test_the_options_of_the_app_fit_their_schema() -> None:
    config = yaml.safe_load((APP / "config.yaml").read_text())
    options, schema = config["options"], config["schema"]
    optional = {key for key, kind in schema.items() if str(kind).endswith("?")}
    assert set(options) == set(schema) - optional
    known = re.compile(r"(str|password|bool|int\(\d+,\d+\)|match\(.+\))\??")
    for kind in schema.values():
        assert known.fullmatch(kind[0] if isinstance(kind, list) else kind)


def test_the_app_explains_each_option_and_port() -> None:
    config = yaml.safe_load((APP / "config.yaml").read_text())
    told = yaml.safe_load((APP / "translations" / "en.yaml").read_text())
    assert set(told["configuration"]) == set(config["schema"])
    assert all({"name", "description"} == set(text) for text in told["configuration"].values())
    assert set(told["network"]) == set(config["ports"])
    documentation = (APP / "DOCS.md").read_text()
    assert all(text["name"] in documentation for text in told["configuration"].values())


def run_script() -> dict[str, Any]:
    return runpy.run_path(str(APP / "run.py"))


def test_the_app_starts_the_server_with_its_defaults(tmp_path: Path) -> None:
    config = yaml.safe_load((APP / "config.yaml").read_text())
    line = run_script()["command"](config["options"], tmp_path)
    check_serve(line)
    assert line[line.index("--allow-host") + 1] == socket.gethostname()


def test_the_app_takes_bundles_from_the_shared_folder(tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    options = {"bundles": ["paper", "mini"], "deadline_s": 20, "hosts": ["ha.lan"]}
    line = run_script()["command"](options, tmp_path)
    check_serve(line)
    assert line[-2:] == [str(tmp_path / "paper"), "mini"]
    assert line[line.index("--deadline-s") + 1] == "20"
    assert line[line.index("ha.lan") - 1] == "--allow-host"


def test_the_key_of_the_app_is_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"bundles": [], "deadline_s": 20, "hosts": [], "api_key": "secret"}
    (tmp_path / "options.json").write_text(json.dumps(given))
    called: dict[str, Any] = {}

    def execve(path: str, line: list[str], environment: dict[str, str]) -> None:
        called.update(line=line, environment=environment)

    script = run_script()
    main = script["main"]
    main.__globals__.update(OPTIONS=tmp_path / "options.json", USER="nobody")
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda given, name=name: called.setdefault(name, given))
    monkeypatch.setattr(os, "execve", execve)
    main()
    assert "secret" not in called["line"]
    assert called["environment"]["EDGE_ET_API_KEY"] == "secret"
    assert called["setgroups"] == []
    assert called["setuid"] != 0
    assert called["setgid"] != 0
