"""examples/pi_camera, over a stand-in for Picamera2, a fake model, and a real MQTT client."""

import configparser
import importlib.util
import json
import socket
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


def test_the_discovery_message_has_what_home_assistant_asks_for(program: Any) -> None:
    config = program.discovery(QUESTION)
    assert config["unique_id"]
    assert config["device"]["identifiers"]
    assert config["origin"]["name"]
    assert config["json_attributes_topic"] == config["state_topic"]


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
