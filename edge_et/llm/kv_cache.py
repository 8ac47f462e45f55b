"""The KV cache over a language model: prefill of what it lacks, decoding token by token.

In: segments of tokens and image tokens. Out: the logits behind the last position, and how many
positions were evaluated or found in the cache. It is trimmed to the longest prefix that it has in
common with a prompt (`kv_positions` says how much of that is kept). Text is not known here.

Numbers that are not finite must not stay in llama.cpp's cells. It masks a position that was dropped
by a weight of 0, and 0 * NaN is NaN: one bad call would spoil all later ones. Logits show them, as
whatever is evaluated behind them is not finite either. So cells are trusted as far as logits say,
and where some are to be dropped before any logits were asked for, one token is evaluated to see.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from edge_et.cancellation import CancelToken
from edge_et.errors import CancelledError, ClosedError, DecodeError, PromptTooLongError
from edge_et.llm.contexts import new_context
from edge_et.llm.image_prompt_cache import ImagePromptCache
from edge_et.llm.kv_positions import (
    Position,
    batches,
    common_prefix,
    generated,
    positions_of,
    restart_at,
    spare_positions,
)
from edge_et.llm.kv_protocol import KVCacheSettings, PrefillProgress
from edge_et.llm.llama import LlamaModel
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.places import START, cut_before_picture, end_of, follow
from edge_et.llm.prompt import Segment, TokenSegment


class LlamaKVCache:
    """One KV cache in llama.cpp. Not safe for use from several threads at once."""

    def __init__(
        self,
        model: LlamaModel,
        shape: ModelShape,
        token_count: int,
        settings: KVCacheSettings,
        image_prompt_cache: ImagePromptCache | None,
    ) -> None:
        """Allocate the cache; see `edge_et.llm.LanguageModel.new_kv_cache`.

        Args:
            model: the weights.
            shape: the model's sizes.
            token_count: V, ids that the tokenizer knows.
            settings: length, threads, number type, attention.
            image_prompt_cache: keeps elsewhere what is held of images; None: nobody does.
        """
        self.shape, self.kv_type = shape, settings.kv_type
        engine = model.engine
        self.engine = f"{engine}, {model.library.describe_build()}"
        rules = engine.flash_rules if settings.has_flash_attention else engine.rules
        rules = model.library.rules_here(rules)
        self._rules = rules.within(settings.batch_positions)
        drafts = 0 if model.is_recurrent else settings.max_draft_tokens
        self.max_draft_tokens = rules.draft_tokens(drafts)
        settings = replace(settings, max_draft_tokens=self.max_draft_tokens)
        batch_positions = max(self._rules.most, self._rules.image_most)
        self._context = new_context(model, shape, settings, batch_positions)
        self.context_length = settings.context_length
        self._token_count = token_count
        self._image_prompt_cache = image_prompt_cache
        self._cached: list[Position] = []
        self._end = START  # of what is cached
        self._drafted: list[int] = []  # in llama.cpp's cache behind `_cached`, with their logits
        self._unchecked = 0  # cells that may have been written since logits were finite
        self._logits: NDArray[np.float32] | None = None

    @property
    def cached_positions(self) -> int:
        """Positions that the cache holds."""
        return len(self._cached)

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits [V] float32 behind the last position, of the ids that the tokenizer knows.

        Raises:
            DecodeError: nothing was evaluated yet.
        """
        if self._logits is None:
            raise DecodeError("there are no logits: nothing was evaluated yet")
        return self._logits

    def prefill(self, segments: Sequence[Segment]) -> PrefillProgress:
        """Make the cache hold exactly these segments, and compute the logits behind them.

        What the cache has in common with them from the start is kept, but for a few positions at
        the seam (see `kv_positions`), and the rest dropped; only the rest of the segments goes
        through the model. If all of it is there, its end is evaluated again unless the logits
        behind it are still known. The outcome does not depend on what was kept.

        Args:
            segments: the whole prompt, at least one position.

        Returns:
            How many positions were reused and evaluated.

        Raises:
            PromptTooLongError: more positions than the context holds, or no room behind a
                short image that ends the prompt, where the engine needs it; nothing was changed.
            DecodeError: llama.cpp failed; the cache is empty now and can be used again.
            CancelledError: see `obey`; the cache holds what it held before the batch.
            ClosedError: the cache was closed.
        """
        return list(self.prefill_steps(segments))[-1]

    def prefill_steps(self, segments: Sequence[Segment]) -> Iterator[PrefillProgress]:
        """Do what `prefill` does, batch by batch.

        Args:
            segments: as for `prefill`.

        Yields:
            What was done so far: before each batch, of 256 positions at most, and at the end. The
            cache holds the beginning of the segments if the end is not waited for.

        Raises:
            EdgeETError: as for `prefill`.
        """
        wanted = positions_of(segments)
        if not wanted:
            raise DecodeError("an empty prompt has nothing to continue")
        self._check_open()
        needed = len(wanted) + spare_positions(segments, self._rules)
        if needed > self.context_length:
            raise PromptTooLongError(needed, self.context_length)
        shared = common_prefix(self._cached, wanted)
        if self._image_prompt_cache is not None:
            shared = self._image_prompt_cache.recall(self, segments, shared)
        if shared == len(self._cached):
            self._context.mark(self._end)
        if shared == len(wanted) == len(self._cached) and self._logits is not None:
            yield PrefillProgress(reused=shared, evaluated=0)
            return
        keep = restart_at(segments, min(shared, len(wanted) - 1), self._rules)
        yield from self._replace(segments, wanted, keep)

    def decode(self, token: int, draft: Sequence[int] = ()) -> int:
        """Evaluate one token, just written, behind what the cache holds.

        Args:
            token: an id that the tokenizer knows.
            draft: ids that may be decoded next. They are evaluated in the same batch, as far as
                there is room; a draft token that comes true is not evaluated again, the others are
                dropped when something else comes. A batch rounds differently: see `kv_positions`.

        Returns:
            How many tokens were evaluated; 0: this one had been drafted.

        Raises:
            PromptTooLongError: the context is full; nothing was changed.
            DecodeError: llama.cpp failed; the cache is empty now and can be used again.
            CancelledError: see `obey`; the cache holds what it held before the batch.
            ClosedError: the cache was closed.
        """
        self._check_open()
        held = len(self._cached)
        if self._drafted[:1] == [token]:
            del self._drafted[0]
            self._add([generated(token)])
            self._take_logits()
            return 0
        if held == self.context_length:
            raise PromptTooLongError(held + 1, self.context_length)
        if self._drafted:
            self._trim(held)
        room = min(self.max_draft_tokens, self.context_length - held - 1)
        tokens = [token, *draft[:room]]
        self._evaluate(np.array(tokens, np.int32), [generated(token)], outputs=len(tokens))
        return len(tokens)

    def rewind(self, positions: int) -> None:
        """Drop what was evaluated behind the first positions, drafts included.

        What is decoded then has the same bits as if nothing else had ever followed them. There are
        no logits before it, unless nothing was dropped.

        Args:
            positions: how many stay, at most those that are held.

        Raises:
            DecodeError: fewer are held, or some of them are not finite, or llama.cpp cannot drop
                the end of this model's cache; then the cache is empty now and can be used again.
            ClosedError: the cache was closed.
        """
        self._check_open()
        if self._unchecked > positions:
            self._check_cells()
        if positions > len(self._cached):
            raise DecodeError(f"the cache holds {len(self._cached)} positions, not {positions}")
        logits = self._logits if positions == len(self._cached) else None
        wanted = self._cached[:positions]
        self._trim(positions)
        self._logits = logits
        for lost in wanted[len(self._cached) :]:  # of a recurrent model
            if isinstance(lost, int) or lost[0] != "generated":
                self._forget()
                raise DecodeError("llama.cpp cannot go back to within this model's prompt")
            self.decode(lost[1])

    def save(self, positions: Sequence[Position]) -> NDArray[np.uint8] | None:
        """Copy what is held at the first positions, for `restore` in another process.

        Args:
            positions: what they should hold, at least one.

        Returns:
            [n] uint8; None: they hold something else, or the cache was closed.
        """
        if not self._context.is_open:
            return None
        self._check_cells()
        if common_prefix(self._cached, positions) < len(positions):
            return None
        return self._context.copy_state(end_of(positions))

    def keep_image(self, segments: Sequence[Segment], beside: Iterable[Sequence[Segment]]) -> None:
        """Copy what is held of a prompt's image, if it is; see `edge_et.llm.KVCache.keep_image`."""
        if self._image_prompt_cache is not None:
            self._image_prompt_cache.keep(self, segments, beside)

    def missing(self, segments: Sequence[Segment]) -> int:
        """Return how many positions of a prompt would have to be evaluated, about."""
        wanted = positions_of(segments)
        known = common_prefix(self._cached, wanted)
        if self._image_prompt_cache is not None:
            known = max(known, self._image_prompt_cache.copied(self, segments))
        return len(wanted) - known

    def restore(self, positions: Sequence[Position], data: NDArray[np.uint8]) -> bool:
        """Hold exactly what was saved.

        Args:
            positions: what will be held, at most the context's length.
            data: what `save` returned for them, of the same model and settings.

        Returns:
            Whether it is held; otherwise nothing is.

        Raises:
            ClosedError: the cache was closed.
        """
        self._check_open()
        self._forget()
        self._unchecked = len(positions)
        if not self._context.load_state(data, end_of(positions)):
            self._forget()
            return False
        self._add(positions)
        self._check_cells()
        return bool(self._cached)

    def obey(self, cancel: CancelToken) -> None:
        """Let evaluation end early from now on; see `edge_et.llm.KVCache.obey`.

        Args:
            cancel: takes the place of the one before.
        """
        self._context.obey(cancel)

    def clear(self) -> None:
        """Forget everything, copies of images as well.

        Raises:
            ClosedError: the cache was closed.
        """
        self._check_open()
        self._forget()
        if self._image_prompt_cache is not None:
            self._image_prompt_cache.clear()

    def close(self) -> None:
        """Free the cache; may be called again."""
        self._context.close()

    def _check_open(self) -> None:
        if not self._context.is_open:
            raise ClosedError("KV cache")

    def _forget(self) -> None:
        self._cached, self._end, self._drafted, self._logits = [], START, [], None
        self._context.clear(numbers=self._unchecked > 0)
        self._unchecked = 0

    def _replace(
        self, segments: Sequence[Segment], wanted: Sequence[Position], keep: int
    ) -> Iterator[PrefillProgress]:
        ends = set(accumulate(map(len, segments)))
        keep = self._context.reach(cut_before_picture(wanted, keep), ends)
        first = next(batches(segments, keep, self._rules))[1]
        if self._unchecked > keep + first.stop - first.start:  # more than it will overwrite
            self._check_cells()
            keep = self._context.reach(min(keep, len(self._cached)), ends)
        self._trim(keep)
        for segment, part in batches(segments, keep, self._rules):
            start = len(self._cached)
            yield PrefillProgress(reused=keep, evaluated=start - keep)
            held = wanted[start : start + part.stop - part.start]
            outputs = int(start + len(held) == len(wanted))
            if isinstance(segment, TokenSegment):
                self._evaluate(np.array(segment.ids[part], np.int32), held, outputs)
            else:
                self._evaluate(segment.image.rows[part], held, outputs)
                if part.stop == len(segment):
                    self._context.mark(self._end)
        self._context.mark(self._end)
        yield PrefillProgress(reused=keep, evaluated=len(wanted) - keep)

    def _trim(self, keep: int) -> None:
        """Drop all positions but the first ones, or more; see `LlamaContext.reach`."""
        # Told even if nothing has to go: drafts, and an interrupt between a decode and its
        # bookkeeping, leave positions there that are not listed here; never less than are.
        del self._cached[cut_before_picture(self._cached, keep) :]
        self._drafted, self._logits = [], None
        kept = self._context.truncate(end := end_of(self._cached))
        if kept is None:
            self._forget()
            raise DecodeError("llama.cpp cannot drop the end of this model's cache")
        del self._cached[kept:]
        self._end = end if kept == end.count else end_of(self._cached)

    def _evaluate(
        self,
        inputs: NDArray[np.int32] | NDArray[np.float32],
        held: Sequence[Position],
        outputs: int,
    ) -> None:
        """Evaluate one batch behind what the cache holds.

        Args:
            inputs: token ids [n] int32, or embedding rows [n,D] float32, C-contiguous.
            held: what the positions will hold; those behind them are drafts.
            outputs: behind how many of the last positions logits are wanted; those behind what is
                held are taken at once.
        """
        self._logits = None
        self._unchecked = max(self._unchecked, len(self._cached) + len(inputs))
        drafts: list[int] = inputs[len(held) :].tolist()
        places, _ = follow(self._end, [*held, *map(generated, drafts)])
        try:
            self._context.decode(inputs, places, outputs)
            if outputs and not self._is_finite():
                raise DecodeError("the logits are not finite: weights or image tokens are damaged")
        except CancelledError:
            self._trim(len(self._cached))
            raise
        except DecodeError:
            self._forget()
            raise
        self._add(held)
        self._drafted = drafts
        if outputs:
            self._unchecked = 0
            self._take_logits()

    def _add(self, positions: Sequence[Position]) -> None:
        self._cached += positions
        self._end = follow(self._end, positions)[1]

    def _check_cells(self) -> None:
        """Forget everything if what was evaluated and not checked since is not finite."""
        if not self._unchecked:
            return
        self._context.mark(self._end)
        # An interrupt may have left some positions behind those that are listed.
        place = max(self._context.last_place() + 1, self._end.following)
        try:
            if place == self.context_length:
                raise DecodeError("there is no room for another token")
            self._context.decode(np.zeros(1, np.int32), np.array([place], np.int32), outputs=1)
            if not self._is_finite():
                raise DecodeError("cells that are not finite")
        except CancelledError:
            self._trim(len(self._cached))
            raise
        except DecodeError:
            self._forget()
        else:
            self._unchecked = 0
            self._trim(len(self._cached))

    def _is_finite(self) -> bool:
        """Say whether the logits behind the last position are, and with them the cells."""
        return bool(np.isfinite(self._context.logits(-1, self._token_count).max()))

    def _take_logits(self) -> None:
        """Copy the logits in front of the first draft token; the next batch overwrites them."""
        self._logits = self._context.logits(-1 - len(self._drafted), self._token_count)
