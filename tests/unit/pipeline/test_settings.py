from dataclasses import fields
from typing import Any

import pytest

from edge_et.errors import OptionError
from edge_et.generation import MAX_DRAFT_TOKENS
from edge_et.llm import KVCacheSettings
from edge_et.options import LoadOptions
from edge_et.pipeline import DeviceProfile, Settings
from edge_et.threads import available_cpus

# Nothing in it is a default.
PROFILE = DeviceProfile(
    bundle_sha256="0" * 64,
    device="abacus",
    versions={},
    threads=available_cpus() + 3,
    kv_type="q8_0",
    flash_attention=True,
    perceiver=None,
    reasoner=None,
)
SAID = {
    "engine": "prebuilt",
    "threads": available_cpus() + 5,
    "kv_type": "f32",
    "prompt_lookup": True,
    "max_pixels": 1234,
    "image_cache_bytes": 0,
    "max_images": 3,
    "max_images_bytes": 4,
    "contexts": 2,
    "max_waiting": 3,
}


def values(settings: Settings) -> dict[str, Any]:
    found = {field.name: getattr(settings, field.name) for field in fields(settings)}
    limits = found.pop("image_limits")
    return {**found, "max_images": limits.images, "max_images_bytes": limits.size_bytes}


def test_where_nobody_says_anything_there_are_defaults() -> None:
    settings = Settings.of(LoadOptions(), None)
    assert settings == Settings()
    assert (settings.threads, settings.kv_type) == (available_cpus(), "f16")
    assert not settings.flash_attention


@pytest.mark.usefixtures("many_cpus")
def test_a_profile_goes_before_the_defaults() -> None:
    assert values(Settings.of(LoadOptions(), PROFILE)) == {
        **values(Settings()),
        "threads": PROFILE.threads,
        "kv_type": "q8_0",
        "flash_attention": True,
    }


@pytest.mark.usefixtures("many_cpus")
@pytest.mark.parametrize("profile", [None, PROFILE], ids=["alone", "over a profile"])
def test_the_caller_goes_before_everything(profile: DeviceProfile | None) -> None:
    settings = Settings.of(LoadOptions(**SAID), profile)  # type: ignore[arg-type]
    assert values(settings) == {
        **values(Settings()),
        **SAID,
        "flash_attention": profile is not None,
    }
    assert all(SAID[name] != values(Settings())[name] for name in SAID)


def test_threads_are_checked() -> None:
    with pytest.raises(OptionError, match="threads"):
        Settings.of(LoadOptions(threads=0), PROFILE)


def test_every_kv_cache_is_made_as_the_settings_say() -> None:
    settings = Settings(threads=3, kv_type="f32", flash_attention=True)
    assert settings.kv_cache(77) == KVCacheSettings(
        context_length=77, threads=3, kv_type="f32", flash_attention=True, max_draft_tokens=None
    )
    for prompt_lookup, most in ((False, 0), (True, MAX_DRAFT_TOKENS)):
        assert Settings(threads=3, prompt_lookup=prompt_lookup).kv_cache(77) == KVCacheSettings(
            context_length=77, threads=3, max_draft_tokens=most
        )
