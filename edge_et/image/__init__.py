"""A picture becomes image tokens.

In: a path, bytes, a PIL image or an array; the bundle's rules; the vision tower. Out: image tokens
[T,D] float32, and what they cost. Questions and language models are not known here. The tower is
the only door to onnxruntime.
"""

from edge_et.image.encoder import Encoded, ImageEncoder, PreparedImage
from edge_et.image.grids import choose_grid, tile_counts
from edge_et.image.load import ImageSource, load_image
from edge_et.image.packing import ImagePlan, plan_image
from edge_et.image.picture_list import (
    DEFAULT_IMAGE_LIMITS,
    AnyImage,
    AnyImages,
    ImageLimits,
    list_pictures,
)
from edge_et.image.several import CheckAll, EncodedImages, encode_each, prepare_each
from edge_et.image.tiling import split_tiles, to_pixel_values
from edge_et.image.vision_tower import (
    DeferredTower,
    ImageTokens,
    TileFeatures,
    Tower,
    VisionTower,
    load_tower_library,
)

__all__ = [
    "DEFAULT_IMAGE_LIMITS",
    "AnyImage",
    "AnyImages",
    "CheckAll",
    "DeferredTower",
    "Encoded",
    "EncodedImages",
    "ImageEncoder",
    "ImageLimits",
    "ImagePlan",
    "ImageSource",
    "ImageTokens",
    "PreparedImage",
    "TileFeatures",
    "Tower",
    "VisionTower",
    "choose_grid",
    "encode_each",
    "list_pictures",
    "load_image",
    "load_tower_library",
    "plan_image",
    "prepare_each",
    "split_tiles",
    "tile_counts",
    "to_pixel_values",
]
