"""One call, one session, one loaded bundle.

In: a bundle, a picture, a question, options. Out: events and an `Answer`. How a command line or a
server tells them is not known here.
"""

from edge_et.pipeline.answer_time import longest_answer
from edge_et.pipeline.api import aload, answer, load, measure, open_snapshots
from edge_et.pipeline.asynchronous import AsyncStream
from edge_et.pipeline.device_profile import (
    PROFILE_NAME,
    DeviceProfile,
    ModelSpeed,
    apply_profile,
    device_name,
    library_versions,
    manifest_sha256,
    profile_folder,
)
from edge_et.pipeline.engine_use import EngineUse, engine_uses, prepare
from edge_et.pipeline.extract_think import ExtractThink
from edge_et.pipeline.factory import (
    ChosenModel,
    Model,
    OpenModel,
    kv_cache_bytes,
    open_model,
    open_pipeline,
)
from edge_et.pipeline.image_cost import image_cost
from edge_et.pipeline.memory_plan import MemoryPlan
from edge_et.pipeline.memory_planner import plan_memory
from edge_et.pipeline.prepared_weights import prepared_weights
from edge_et.pipeline.request import Request
from edge_et.pipeline.session import Session
from edge_et.pipeline.settings import Settings
from edge_et.pipeline.stream import Stream
from edge_et.pipeline.text_session import TextSession

__all__ = [
    "PROFILE_NAME",
    "AsyncStream",
    "ChosenModel",
    "DeviceProfile",
    "EngineUse",
    "ExtractThink",
    "MemoryPlan",
    "Model",
    "ModelSpeed",
    "OpenModel",
    "Request",
    "Session",
    "Settings",
    "Stream",
    "TextSession",
    "aload",
    "answer",
    "apply_profile",
    "device_name",
    "engine_uses",
    "image_cost",
    "kv_cache_bytes",
    "library_versions",
    "load",
    "longest_answer",
    "manifest_sha256",
    "measure",
    "open_model",
    "open_pipeline",
    "open_snapshots",
    "plan_memory",
    "prepare",
    "prepared_weights",
    "profile_folder",
]
