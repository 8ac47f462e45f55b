"""The image encoder: from a picture to the image tokens that a language model reads.

In: a picture, and how many tiles and tokens it may become. Out: `ImageTokens`, remembered by
content, and what making them took. Whether they fit is asked before the tower runs. Questions and
language models are not known here.
"""

import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.bundle import VisionSpec
from edge_et.cancellation import CancelToken
from edge_et.errors import ImageInputError, OptionError, PromptTooLongError
from edge_et.image.grids import tile_counts
from edge_et.image.load import ImageSource, load_image
from edge_et.image.packing import ImagePlan, pack, plan_image
from edge_et.image.picture_list import AnyImage
from edge_et.image.tiling import split_tiles, to_pixel_values
from edge_et.image.vision_tower import ImageTokenCache, ImageTokens, TileFeatures, Tower
from edge_et.options import AnswerOptions
from edge_et.results import PhaseUsage, Progress
from edge_et.store import Snapshots

Encoded = tuple[ImageTokens, dict[str, PhaseUsage]]
"""Image tokens, and what the phases ``image`` and ``vision`` took."""

Check = Callable[[ImageTokens], None]
"""Raises `PromptTooLongError` if what goes with image tokens of that number does not fit."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """A picture on its way to the tower.

    Attributes:
        digest: what its image tokens are known by.
        tokens: these, if they are at hand; None: `tiles` and `plan` say what to encode.
        tiles: RGB pictures of the bundle's size.
        plan: what they become.
        seconds: time spent so far.
    """

    digest: str
    tokens: ImageTokens | None = None
    tiles: tuple[Image.Image, ...] = ()
    plan: ImagePlan | None = None
    seconds: float = 0.0


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
        self._tile_s: float | None = None
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

    def prepare(self, image: AnyImage, options: AnswerOptions, check: Check) -> PreparedImage:
        """Do all that comes before the tower; may be called by several threads at once.

        Args:
            image: see `edge_et.image.load_image`; or image tokens, whose rows may be floats of
                another type or order, and otherwise are taken as they are.
            options: `max_tiles` and `pooling` of them.
            check: called with as many rows of zeros as there will be.

        Raises:
            ImageError: the picture, or the image tokens, cannot be used; a child says why.
            OptionError: the tiles' tokens cannot be pooled, or image tokens cannot become others.
            PromptTooLongError: from `check`, with the picture's numbers added.
        """
        if isinstance(image, ImageTokens):
            image = self._checked(image, options)
            self._check_fits(len(image.rows), check, None)
            return PreparedImage(image.digest, tokens=image)
        start = perf_counter()
        loaded = load_image(image, self._max_pixels)
        plan = self._plan(loaded, options)
        self._check_fits(plan.image_tokens, check, plan)
        digest = self._digest(loaded, plan)
        tokens = self._images.peek(digest)
        tiles = [] if tokens else split_tiles(loaded, self._spec.processing, plan.grid)
        seconds = perf_counter() - start
        return PreparedImage(digest, tokens=tokens, tiles=tuple(tiles), plan=plan, seconds=seconds)

    def encode(
        self, image: PreparedImage, cancel: CancelToken
    ) -> Generator[Progress, None, Encoded]:
        """Turn a picture into image tokens; one thread at a time does so.

        Args:
            image: from `prepare`.
            cancel: ends it early.

        Yields:
            Before each tile how far it is.

        Returns:
            The image tokens, and what they took.

        Raises:
            VisionRunError: the vision tower failed.
            CancelledError: `cancel` was cancelled.
        """
        start = perf_counter()
        known = None if image.plan is None else self._images.get(image.digest)
        tokens = known or image.tokens
        seconds, made = 0.0, 0
        if tokens is None:
            assert image.plan is not None
            rows = self._recall(image.digest, image.plan)
            if rows is None:
                seconds += perf_counter() - start
                features, tile_s = yield from self._run_tower(image, cancel)
                start = perf_counter()
                seconds += tile_s
                rows = pack(features, image.plan)
                made = len(rows)
                self._keep(image.digest, rows)
            rows.setflags(write=False)
            tokens = ImageTokens(rows, image.digest, image.plan.token_grid)
            self._images.put(tokens)
        if image.plan is not None:
            seconds += perf_counter() - start
        return tokens, {
            "image": PhaseUsage(seconds=image.seconds),
            "vision": PhaseUsage(
                seconds=seconds, evaluated_tokens=made, reused_tokens=len(tokens.rows) - made
            ),
        }

    def stand_in(self, image: PreparedImage) -> ImageTokens:
        """Return as many image tokens as a picture will have, in no memory; for a `Check`."""
        return image.tokens or self._zeros(0 if image.plan is None else image.plan.image_tokens)

    def clear(self) -> None:
        """Forget the image tokens."""
        self._images.clear()

    def _run_tower(
        self, image: PreparedImage, cancel: CancelToken
    ) -> Generator[Progress, None, tuple[TileFeatures, float]]:
        """Run the tower tile by tile; return features and the seconds spent inside."""
        made: list[TileFeatures] = []
        total, seconds = len(image.tiles), 0.0
        try:
            for done, tile in enumerate(image.tiles):
                left = None if self._tile_s is None else self._tile_s * (total - done)
                yield Progress(
                    stage="vision", phase="encode", done=done, total=total, seconds_left=left
                )
                start = perf_counter()
                made.append(self._tower.encode(self._pixel_values([tile]), cancel))
                self._tile_s = perf_counter() - start
                seconds += self._tile_s
        finally:
            self._tower.rest()
        features = tuple(tile for one in made for tile in one.features)
        return replace(made[0], features=features), seconds

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

    def _pixel_values(self, tiles: Iterable[Image.Image]) -> Iterator[NDArray[np.float32]]:
        return (to_pixel_values(tile, self._spec.processing) for tile in tiles)

    def _digest(self, image: Image.Image, plan: ImagePlan) -> str:
        """Identify the rows that graph, picture and plan give, without making them."""
        tower = " ".join(file.sha256 for file in self._spec.files)
        digest = hashlib.sha256(f"{tower} {self._spec.processing} {plan}".encode())
        digest.update(image.tobytes())
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
        self._check_grid(image)
        with np.errstate(over="ignore"):  # they are infinite then
            converted = np.require(rows, np.float32, ["C", "A", "E"])
        if not np.isfinite(converted).all():
            raise ImageInputError("image tokens with values that are not finite", advice)
        if converted is rows:
            return image
        converted.setflags(write=False)
        return ImageTokens(converted, image.digest, image.grid)

    def _check_grid(self, image: ImageTokens) -> None:
        """Check that given image tokens stand for the language model as this bundle's do.

        Raises:
            ImageInputError: they do not.
        """
        grid = image.grid
        if self._spec.places == "line":
            if grid is not None:
                raise ImageInputError(
                    "image tokens with a grid", "this bundle's have none; encode the picture again"
                )
            return
        fits = isinstance(grid, tuple) and len(grid) == 2
        fits = fits and all(isinstance(side, int) and side > 0 for side in grid or ())
        if grid is None or not fits or grid[0] * grid[1] != len(image.rows):
            raise ImageInputError(
                f"{len(image.rows)} image tokens with a grid {grid!r}",
                "`grid` is how many rows and columns they are; encode the picture again",
            )

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
        counts = tile_counts(self._spec.processing)
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
