"""A camera is watched: its frames come in, answers about them go out.

In: a source of frames, a question, options. Out: `WatchEvent`s, one for each frame that was looked
at. Cameras are faster than answers, so the newest frame is taken and older ones are dropped. What
is done with an answer is not known here. PyAV and OpenCV are imported when a source or a detector
needs them.
"""

from edge_et.camera.background import BackgroundChange
from edge_et.camera.change import BlockChange, ChangeDetector
from edge_et.camera.events import WatchEvent
from edge_et.camera.frames import Frame
from edge_et.camera.ignored_regions import Ignored
from edge_et.camera.watching import Watch, watch

__all__ = [
    "BackgroundChange",
    "BlockChange",
    "ChangeDetector",
    "Frame",
    "Ignored",
    "Watch",
    "WatchEvent",
    "watch",
]
