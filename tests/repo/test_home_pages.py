"""Whether the configurations on the pages about Home Assistant and Frigate are what those read.

Fields are those of their sources in autumn 2026: homeassistant/components/ai_task/services.yaml,
custom_components/llmvision/services.yaml, frigate/config/.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tiny.pages import blocks
from tiny.places import ROOT

HOME_ASSISTANT = ROOT / "docs" / "home-assistant.md"
FRIGATE = ROOT / "docs" / "frigate.md"

AUTOMATION = {"alias", "triggers", "conditions", "actions", "mode", "max_exceeded"}
ACTIONS = {
    "ai_task.generate_data": {"task_name", "instructions", "entity_id", "structure", "attachments"},
    "llmvision.image_analyzer": {
        *("provider", "model", "message", "image_entity", "include_filename", "target_width"),
        *("max_tokens", "generate_title", "response_format", "structure"),
    },
    "notify.notify": {"message", "title"},
}
PROVIDER = {"provider", "base_url", "api_key", "model", "roles", "provider_options"}
OBJECTS = {"enabled", "use_snapshot", "prompt", "object_prompts", "objects", "required_zones"}


def configurations(page: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in blocks(page, "yaml")]


def actions(found: Any) -> list[dict[str, Any]]:
    """Return the actions of an automation, those of its branches too."""
    if isinstance(found, list):
        return [action for one in found for action in actions(one)]
    branches = [*found.get("then", ()), *found.get("else", ())]
    return ([found] if "action" in found else []) + actions(branches)


@pytest.mark.parametrize("number", range(2))
def test_automations_have_fields_that_home_assistant_knows(number: int) -> None:
    automation = configurations(HOME_ASSISTANT)[number]
    assert {"alias", "triggers", "actions", "mode"} <= set(automation) <= AUTOMATION
    assert all("trigger" in trigger for trigger in automation["triggers"])
    called = actions(automation["actions"])
    assert len(called) == 2
    for action in called:
        assert set(action) <= {"action", "data", "response_variable"}
        assert set(action["data"]) <= ACTIONS[action["action"]]
    answered = called[0]["response_variable"]
    assert f"{{{{ {answered}." in str(automation)


def test_all_configurations_are_looked_at() -> None:
    assert len(configurations(HOME_ASSISTANT)) == 2
    assert len(configurations(FRIGATE)) == 5


def test_a_camera_is_an_attachment_of_an_ai_task() -> None:
    asked = actions(configurations(HOME_ASSISTANT)[1]["actions"])[0]["data"]
    assert asked["attachments"]["media_content_id"].startswith("media-source://camera/camera.")
    for field in asked["structure"].values():
        assert set(field) <= {"description", "required", "selector"}
        assert len(field["selector"]) == 1


def test_frigate_has_one_provider_of_each_kind() -> None:
    given = configurations(FRIGATE)[:3]
    providers = [provider for one in given for provider in one["genai"].values()]
    assert [one["provider"] for one in providers] == ["openai", "llamacpp", "ollama"]
    for one in providers:
        assert set(one) <= PROVIDER
        # Our server calls no tools and makes no vectors.
        assert one["roles"] == ["descriptions"]
        url = urlsplit(one["base_url"])
        assert (url.scheme, url.port) == ("http", 8890)
        # Only the client of OpenAI takes the path as it is given.
        assert url.path == ("/v1" if one["provider"] == "openai" else "")
        # It does not start without one.
        assert one["provider"] != "openai" or one["api_key"]


def test_frigate_sends_one_picture_of_an_object() -> None:
    config = configurations(FRIGATE)[3]
    assert config["snapshots"]["enabled"]
    objects = config["objects"]["genai"]
    assert set(objects) <= OBJECTS
    assert objects["enabled"]
    assert objects["use_snapshot"]
    assert not config["review"]["genai"]["enabled"]


def test_frigate_before_0_18_is_told_the_address_where_it_reads_it() -> None:
    (config,) = configurations(FRIGATE)[4:]
    assert set(config["genai"]) <= PROVIDER - {"base_url", "roles"}
    assert set(config["genai"]["provider_options"]) == {"base_url"}
