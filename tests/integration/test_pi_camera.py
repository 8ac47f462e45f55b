"""examples/pi_camera, over a stand-in for Picamera2, a fake model, and a real MQTT client."""

import configparser
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.broker import Broker
from tiny.cameras import FakePicamera2, fake_pipeline, plain
from tiny.places import EXAMPLES

from edge_et.camera import BlockChange, WatchEvent, watch
from edge_et.errors import CameraError
from edge_et.results import Answer

FOLDER = EXAMPLES / "pi_camera"
QUESTION = "Is there a cup?"


@pytest.fixture
def program() -> Any:
    spec = importlib.util.spec_from_file_location("pi_camera", FOLDER / "pi_camera.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def event(value: bool, *, cut: bool = False) -> WatchEvent:
    from datetime import UTC, datetime

    answer = Answer(
        text="yes" if value else "no",
        extraction="",
        reasoning="",
        usage={},
        value=value,
        shares={"yes": 0.75, "no": 0.25} if value else {"yes": 0.1, "no": 0.9},
        finish_reasons={"answer": "deadline" if cut else "stop"},
    )
    return WatchEvent(time=datetime(2026, 1, 1, tzinfo=UTC), answer=answer)


def test_home_assistant_is_told_by_a_real_client(
    program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = WatchEvent(time=event(True).time, error=CameraError("the Picamera2", "no frame"))
    told: list[str] = []
    with Broker() as broker:
        client = program.new_client(QUESTION)
        client.connect_async("127.0.0.1", broker.port)
        client.loop_start()
        broker.wait_for(2)
        events = [event(True), lost, event(True, cut=True), event(False)]
        program.follow(events, client, told.append)
        messages = broker.wait_for(4)
        client.disconnect()
        client.loop_stop()
    assert all(message.is_retained for message in messages)
    by_topic = [(message.topic, message.content) for message in messages]
    config = json.loads(by_topic[0][1])
    assert by_topic[0][0] == "homeassistant/binary_sensor/pi_camera/config"
    assert by_topic[1] == (config["availability_topic"], b"online")
    states = [json.loads(content) for topic, content in by_topic if topic == config["state_topic"]]
    assert [(each["state"], each["share"]) for each in states] == [("ON", 0.75), ("OFF", 0.9)]
    assert b"pi_camera/status\x00\x07offline" in broker.connects[0]  # the last will
    assert told == ["READY=1", *["WATCHDOG=1"] * 3]  # not for a camera that is lost
    assert "no frame" in capsys.readouterr().out


# Those that we use of the keys that Home Assistant takes, all others of which it drops without a
# word. Source: homeassistant/components/mqtt/binary_sensor.py and schemas.py of 2026.2.
KEYS = {
    *("name", "unique_id", "device", "origin", "state_topic", "value_template"),
    *("json_attributes_topic", "availability_topic"),
}


def test_the_discovery_message_has_what_home_assistant_takes(program: Any) -> None:
    config = program.discovery(QUESTION)
    assert set(config) == KEYS
    assert config["unique_id"]
    assert set(config["device"]) == {"identifiers", "name"}
    assert config["device"]["identifiers"]
    assert set(config["origin"]) == {"name"}
    assert config["json_attributes_topic"] == config["state_topic"]
    # Wildcards would be subscribed to.
    assert not any(
        sign in value for key, value in config.items() if "topic" in key for sign in "+#"
    )
    assert config["value_template"] == "{{ value_json.state }}"
    told = {(program.state(event(value)) or {}).get("state") for value in (True, False)}
    assert told == {"ON", "OFF"}  # the default payloads


def test_systemd_hears_of_frames_without_a_change(program: Any, tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    told: list[str] = []
    detector = program.Patient(BlockChange(), told.append)
    camera = FakePicamera2("RGB888", plain(80))
    with watch(camera, QUESTION, pipe, every=0, changed=detector) as events:
        assert next(events).answer is not None
        while len(told) < 3:
            assert detector.has_changed(next_frame(camera)) is False
    assert set(told) == {"WATCHDOG=1"}


def next_frame(camera: FakePicamera2) -> Any:
    from datetime import UTC, datetime

    from edge_et.camera import Frame

    picture = np.asarray(camera.wait(camera.capture_array(wait=False)))
    return Frame(number=1, time=datetime.now(UTC), picture=picture)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = tmp_path / "notify"
        listening.bind(str(path))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listening


def test_systemd_is_notified(program: Any, systemd: socket.socket) -> None:
    program.notify("READY=1")
    assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_notified(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    program.notify("READY=1")


def test_the_unit_waits_longer_than_an_answer_and_a_rest() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(FOLDER / "pi-camera.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 30 + 60
    assert int(service["TimeoutStopSec"]) > 12


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = (FOLDER / "pi-camera.service").read_text()
    here = unit.replace("/opt/pi-camera/bin/python ", f"{sys.executable} ")
    assert here != unit
    (tmp_path / "pi-camera.service").write_text(here)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "pi-camera.service")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "pi-camera.service" not in result.stderr
    assert result.returncode == 0, result.stderr
