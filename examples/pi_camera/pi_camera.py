"""A Raspberry Pi's camera answers a question, and Home Assistant is told by MQTT.

What is set in the environment stands in pi-camera.service; README.md has the commands.
"""

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt

import edge_et
from edge_et.camera import BlockChange, WatchEvent

NAME = "pi_camera"
STATUS = f"{NAME}/status"
STATE = f"{NAME}/state"
DISCOVERY = f"homeassistant/binary_sensor/{NAME}/config"


def discovery(question: str) -> dict[str, Any]:
    """Return what makes Home Assistant show a binary sensor (MQTT discovery)."""
    return {
        "name": question,
        "unique_id": NAME,
        "state_topic": STATE,
        "value_template": "{{ value_json.state }}",
        "json_attributes_topic": STATE,
        "availability_topic": STATUS,
        "device": {"identifiers": [NAME], "name": "Pi camera"},
        "origin": {"name": "edge-et"},
    }


def state(event: WatchEvent) -> dict[str, Any] | None:
    """Return what is published of an event; None: nothing, as the answer is not to be relied on."""
    answer = event.answer
    if answer is None or "deadline" in answer.finish_reasons.values():
        return None
    return {
        "state": "ON" if answer.value else "OFF",
        "share": round(max(answer.shares.values()), 3),
        "time": event.time.isoformat(),
    }


def new_client(question: str) -> mqtt.Client:
    """Return a client that tells of itself whenever it is connected."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=NAME)
    client.will_set(STATUS, "offline", qos=1, retain=True)

    def on_connect(
        client: mqtt.Client, userdata: Any, flags: Any, reason_code: Any, properties: Any
    ) -> None:
        if reason_code.is_failure:
            print(f"the broker refuses: {reason_code}", flush=True)
            return
        client.publish(DISCOVERY, json.dumps(discovery(question)), qos=1, retain=True)
        client.publish(STATUS, "online", qos=1, retain=True)

    client.on_connect = on_connect
    return client


def notify(message: str) -> None:
    """Tell systemd something (sd_notify), if it started this program."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), address.replace("@", "\0", 1))


def follow(events: Any, client: mqtt.Client, tell: Callable[[str], None] = notify) -> None:
    """Publish answers until the watch ends; systemd hears of every frame that was looked at."""
    tell("READY=1")
    for event in events:
        if event.error is not None:
            print(event.error, flush=True)
            continue
        tell("WATCHDOG=1")
        if (document := state(event)) is not None:
            client.publish(STATE, json.dumps(document), qos=1, retain=True)


def main() -> None:
    """Run until SIGTERM."""
    from picamera2 import Picamera2

    question = os.environ["QUESTION"]
    client = new_client(question)
    if "MQTT_USER" in os.environ:
        client.username_pw_set(os.environ["MQTT_USER"], os.environ.get("MQTT_PASSWORD"))
    client.connect_async(os.environ.get("MQTT_HOST", "localhost"))
    client.loop_start()
    camera = Picamera2()
    camera.configure(camera.create_video_configuration({"format": "RGB888", "size": (1280, 720)}))
    camera.start()
    detector = Patient(BlockChange())
    options: dict[str, Any] = {"kind": "yes/no", "every": 5, "deadline_s": 30}
    try:
        with edge_et.watch(
            camera, question, os.environ.get("MODEL"), changed=detector, **options
        ) as events:
            signal.signal(signal.SIGTERM, lambda number, frame: events.close())
            follow(events, client)
    finally:
        client.publish(STATUS, "offline", qos=1, retain=True)
        client.disconnect()
        client.loop_stop()
        camera.stop()


class Patient:
    """A detector that tells systemd of frames without a change too: the camera is alive."""

    def __init__(self, detector: BlockChange, tell: Callable[[str], None] = notify) -> None:
        """Ask another detector.

        Args:
            detector: decides.
            tell: is told of each frame.
        """
        self._detector, self._tell = detector, tell

    def has_changed(self, frame: Any) -> bool:
        """Return what the detector says."""
        self._tell("WATCHDOG=1")
        return self._detector.has_changed(frame)


if __name__ == "__main__":
    main()
