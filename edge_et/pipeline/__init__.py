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
from edge_et.pipeline.engine_use import EngineUse, bytes_to_prepare, engine_uses, prepare
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
from edge_et.pipeline.known_answers import (
    ModelDistance,
    Role,
    TowerDistance,
    make_known_answers,
    model_distance,
    models_of,
    other_distances,
    tower_distance,
)
from edge_et.pipeline.memory_plan import MemoryPlan
from edge_et.pipeline.memory_planner import estimate_memory, plan_memory
from edge_et.pipeline.prepared_weights import open_prepared_weights
from edge_et.pipeline.request import Request, check_asked
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
    "ModelDistance",
    "ModelSpeed",
    "OpenModel",
    "Request",
    "Role",
    "Session",
    "Settings",
    "Stream",
    "TextSession",
    "TowerDistance",
    "aload",
    "answer",
    "apply_profile",
    "bytes_to_prepare",
    "check_asked",
    "device_name",
    "engine_uses",
    "estimate_memory",
    "image_cost",
    "kv_cache_bytes",
    "library_versions",
    "load",
    "longest_answer",
    "make_known_answers",
    "manifest_sha256",
    "measure",
    "model_distance",
    "models_of",
    "open_model",
    "open_pipeline",
    "open_prepared_weights",
    "open_snapshots",
    "other_distances",
    "plan_memory",
    "prepare",
    "profile_folder",
    "tower_distance",
]
