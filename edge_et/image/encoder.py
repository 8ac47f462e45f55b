"""The image encoder: from a picture to the image tokens that a language model reads.

In: a picture, and how many tiles and tokens it may become. Out: `ImageTokens`, remembered by
content, and what making them took. Whether they fit is asked before the tower runs. Questions and
language models are not known here.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.bundle import VisionSpec
from edge_et.errors import ImageInputError, OptionError, PromptTooLongError
from edge_et.image.load import ImageSource, load_image
from edge_et.image.packing import ImagePlan, pack, plan_image
from edge_et.image.tiling import split_tiles, to_pixel_values
from edge_et.image.vision_tower import ImageTokenCache, ImageTokens, Tower
from edge_et.options import AnswerOptions
from edge_et.results import PhaseUsage
from edge_et.store import Snapshots

AnyImage = ImageSource | ImageTokens
"""A picture, or what it was encoded to."""

Encoded = tuple[ImageTokens, dict[str, PhaseUsage]]
"""Image tokens, and what the phases ``image`` and ``vision`` took."""

Check = Callable[[ImageTokens], None]
"""Raises `PromptTooLongError` if what goes with image tokens of that number does not fit."""


class ImageEncoder:
    """A vision tower with the bundle's rules and the image tokens made last."""

    def __init__(
        self,
        spec: VisionSpec,
        tower: Tower,
        *,
        max_pixels: int,
        cache_bytes: int,
        snapshots: Snapshots | None = None,
    ) -> None:
        """Begin with nothing remembered.

        Args:
            spec: the bundle's rules.
            tower: makes features of tiles.
            max_pixels: most pixels of a picture.
            cache_bytes: most bytes of image tokens that are remembered.
            snapshots: keep them on disk too; None: nobody does.
        """
        self._spec = spec
        self._tower = tower
        self._max_pixels = max_pixels
        self._images = ImageTokenCache(cache_bytes)
        self._snapshots = snapshots

    def plan(self, image: ImageSource, options: AnswerOptions) -> ImagePlan:
        """Tell what a picture will become; the tower does not run.

        Args:
            image: see `edge_et.image.load_image`.
            options: `max_tiles` and `pooling` of them.

        Raises:
            ImageError: the picture cannot be used; a child says why.
            OptionError: the tiles' tokens cannot be pooled.
        """
        return self._plan(load_image(image, self._max_pixels), options)

    def encode(self, image: AnyImage, options: AnswerOptions, check: Check) -> Encoded:
        """Turn a picture into image tokens.

        Args:
            image: see `edge_et.image.load_image`; or image tokens, whose rows may be floats of
                another type or order, and otherwise are returned as they are.
            options: `max_tiles` and `pooling` of them.
            check: called with as many rows of zeros as there will be, before the tower runs.

        Returns:
            The image tokens, and what they took.

        Raises:
            ImageError: the picture, or the image tokens, cannot be used; a child says why.
            OptionError: the tiles' tokens cannot be pooled, or image tokens cannot become others.
            PromptTooLongError: from `check`, with the picture's numbers added.
            VisionRunError: the vision tower failed.
        """
        if isinstance(image, ImageTokens):
            image = self._checked(image, options)
            self._check_fits(len(image.rows), check, None)
            reused = PhaseUsage(reused_tokens=len(image.rows))
            return image, {"image": PhaseUsage(), "vision": reused}
        start = perf_counter()
        loaded = load_image(image, self._max_pixels)
        plan = self._plan(loaded, options)
        self._check_fits(plan.image_tokens, check, plan)
        tiles = split_tiles(loaded, self._spec.processing, plan.grid)
        digest = self._digest(tiles, plan)
        prepared = perf_counter()
        tokens = self._images.get(digest)
        made = False
        if tokens is None:
            rows = self._recall(digest, plan)
            if rows is None:
                made = True
                output = self._tower.encode(self._pixel_values(tiles))
                rows = pack(output.features, output.newline, plan)
                self._keep(digest, rows)
            rows.setflags(write=False)
            tokens = ImageTokens(rows, digest)
            self._images.put(tokens)
        count = len(tokens.rows)
        return tokens, {
            "image": PhaseUsage(seconds=prepared - start),
            "vision": PhaseUsage(
                seconds=perf_counter() - prepared,
                evaluated_tokens=count if made else 0,
                reused_tokens=0 if made else count,
            ),
        }

    def clear(self) -> None:
        """Forget the image tokens."""
        self._images.clear()

    def _recall(self, digest: str, plan: ImagePlan) -> NDArray[np.float32] | None:
        """Return the rows of a digest from the disk, or None where they are not kept."""
        if self._snapshots is None:
            return None
        key = self._snapshots.key("image tokens", digest=digest)
        data = self._snapshots.store.read(key)
        if data is None:
            return None
        shape = (plan.image_tokens, self._spec.embedding_width)
        if data.nbytes == math.prod(shape) * np.float32().nbytes:
            rows = data.view(np.float32).reshape(shape)
            if np.isfinite(rows).all():
                return rows
        self._snapshots.store.drop(key)
        return None

    def _keep(self, digest: str, rows: NDArray[np.float32]) -> None:
        if self._snapshots is not None:
            key = self._snapshots.key("image tokens", digest=digest)
            self._snapshots.later(key, lambda: rows.reshape(-1).view(np.uint8))

    def _plan(self, image: Image.Image, options: AnswerOptions) -> ImagePlan:
        return plan_image(
            self._spec, image.size, max_tiles=options.max_tiles, pooling=options.pooling
        )

    def _pixel_values(self, tiles: list[Image.Image]) -> Iterator[NDArray[np.float32]]:
        return (to_pixel_values(tile, self._spec.processing) for tile in tiles)

    def _digest(self, tiles: list[Image.Image], plan: ImagePlan) -> str:
        """Identify the rows that graph, pixel values and plan give, without making them."""
        tower = " ".join(file.sha256 for file in self._spec.files)
        digest = hashlib.sha256(f"{tower} {plan}".encode())
        for values in self._pixel_values(tiles):
            digest.update(values.data)
        return digest.hexdigest()

    def _checked(self, image: ImageTokens, options: AnswerOptions) -> ImageTokens:
        """Return given image tokens as llama.cpp can read them, which is told where they lie.

        Raises:
            ImageInputError: they are none of this bundle's.
            OptionError: an option would make others of them.
        """
        for name in ("max_tiles", "pooling"):
            value = getattr(options, name)
            if value is not None:
                expected = "none: these image tokens exist; give it where the picture is encoded"
                raise OptionError(name, value, expected)
        rows, width = image.rows, self._spec.embedding_width
        advice = f"rows are an array [T,{width}] of finite floats; encode the picture again"
        if not isinstance(rows, np.ndarray) or not isinstance(image.digest, str):
            kinds = f"a {type(rows).__name__} and a {type(image.digest).__name__}"
            raise ImageInputError(f"image tokens of {kinds}", f"{advice}, the digest is a text")
        if rows.ndim != 2 or rows.shape[1] != width or len(rows) == 0 or rows.dtype.kind != "f":
            found = f"image tokens of shape {list(rows.shape)} and type {rows.dtype}"
            raise ImageInputError(found, advice)
        with np.errstate(over="ignore"):  # they are infinite then
            converted = np.require(rows, np.float32, ["C", "A", "E"])
        if not np.isfinite(converted).all():
            raise ImageInputError("image tokens with values that are not finite", advice)
        if converted is rows:
            return image
        converted.setflags(write=False)
        return ImageTokens(converted, image.digest)

    def _check_fits(self, count: int, check: Check, plan: ImagePlan | None) -> None:
        """Call a check, and add to its error how the picture has a part in it.

        Args:
            count: image tokens.
            check: see `encode`.
            plan: of the picture; None: it was encoded before.

        Raises:
            PromptTooLongError: from `check`.
        """
        try:
            check(self._zeros(count))
        except PromptTooLongError as err:
            fitting: Iterable[Mapping[str, int]] = ()
            try:
                check(self._zeros(0))
            except PromptTooLongError as without_picture:
                if without_picture.tokens == err.tokens:  # the picture is not in that context
                    raise err from None
            else:
                fitting = self._fitting(plan, check) if plan else self._fitting_anew(count, check)
            raise PromptTooLongError(
                err.tokens,
                err.limit,
                image_tokens=count,
                tiles=None if plan is None else plan.tiles,
                fitting=fitting,
                helps=err.helps,
            ) from err

    def _fitting(self, plan: ImagePlan, check: Check) -> Iterator[Mapping[str, int]]:
        """Find options for a picture that does not fit.

        Yields:
            The most tiles that fit with the same pooling, and the most that do with more of it.
        """
        tiling = self._spec.processing.tiling
        grids = () if tiling is None else tiling.grids
        counts = sorted({1, *(columns * rows + 1 for columns, rows in grids)}, reverse=True)
        for pooling in range(plan.pooling, 3):
            for most in (count for count in counts if count <= plan.tiles):
                try:
                    other = plan_image(self._spec, plan.size, max_tiles=most, pooling=pooling)
                    check(self._zeros(other.image_tokens))
                except (OptionError, PromptTooLongError):
                    continue
                options = {} if other.tiles == plan.tiles else {"max_tiles": other.tiles}
                yield options if pooling == plan.pooling else options | {"pooling": pooling}
                break

    def _fitting_anew(self, count: int, check: Check) -> Iterator[Mapping[str, int]]:
        """Find options to encode a picture with again, of which the image tokens alone are known.

        Yields:
            One tile as the bundle pools it, or else one that is pooled more, if that fits.
        """
        processing = self._spec.processing
        size = (processing.width, processing.height)
        tile = {} if processing.tiling is None else {"max_tiles": 1}
        for pooling in range(self._spec.pooling, 3):
            options = tile if pooling == self._spec.pooling else tile | {"pooling": pooling}
            try:
                plan = plan_image(self._spec, size, max_tiles=1, pooling=pooling)
                check(self._zeros(plan.image_tokens))
            except (OptionError, PromptTooLongError):
                continue
            if options and plan.image_tokens < count:
                yield options
                return

    def _zeros(self, count: int) -> ImageTokens:
        """Return image tokens that only their number matters of, in no memory."""
        rows = np.broadcast_to(np.float32(0), (count, self._spec.embedding_width))
        return ImageTokens(rows, digest="")
