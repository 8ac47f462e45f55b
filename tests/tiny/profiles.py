"""Device profiles as `edge-et autotune` writes them, without a search."""

from typing import Any

import msgspec

from edge_et.bundle import Bundle
from edge_et.pipeline import (
    PROFILE_NAME,
    DeviceProfile,
    device_name,
    library_versions,
    manifest_sha256,
    profile_folder,
)


def write_profile(bundle: Bundle, **fields: Any) -> DeviceProfile:
    """Write a profile that fits this bundle and machine, but for the fields given."""
    profile = DeviceProfile(
        bundle_sha256=manifest_sha256(bundle),
        device=device_name(),
        versions=library_versions(),
        threads=2,
        kv_type="f32",
        flash_attention=True,
        perceiver=None,
        reasoner=None,
    )
    profile = msgspec.structs.replace(profile, **fields)
    folder = profile_folder(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROFILE_NAME).write_bytes(msgspec.json.encode(profile))
    return profile
