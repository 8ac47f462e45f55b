"""An inventory of a picture: where its things are, and how many of each kind, as further tokens.

In: patch features, the tokens of what is seen, and a closer look. Out: three tokens for each kind
of thing: how many there are, what its name is, and what else it may be. Each of them also tells
the place of a single thing, or again the number of several.

What is at a place is looked up as what stands behind the place. Small models do that well (compare
"In-context Learning and Induction Heads", arXiv 2209.11895). A small model that has to count over a
map of tokens is right four times in ten. Counting things that are alike takes no learning (compare
"Learning to Count Objects in Natural Images for VQA", arXiv 1802.05766). Things of a kind are named
together. The third token answers questions about what a thing may be, where that is not its
likeliest name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.concepts import PLACES
from edge_et.tuning.mini.facts import ObjectFacts
from edge_et.tuning.mini.vision.crop_classifier import CropClassifier
from edge_et.tuning.mini.vision.feature_shards import SHARD_SCENES, FeatureShard, load_shard
from edge_et.tuning.mini.vision.places import places_of

if TYPE_CHECKING:
    from edge_et.tuning.mini.vision.vision_head import VisionHead

Look = Callable[[Tensor], Tensor]
"""From boxes [N, K, 3], as `CropEncoder` takes them, to looks [N, K, C]."""

_CHANNELS = 64
# From which chance on a thing is listed; the likeliest, which may be all there is, from a lower
# one.
_PRESENT = 0.06
_LIKELIEST_PRESENT = 0.02
# Two things are one, found twice, where they are nearer than this share of both their sizes; in
# scenes, what stands in front of something is farther off.
_ONE = 0.3
# Two drawings of one kind can look unlike, and two kinds alike, so names count as well. They are
# softened, as a likely name is overconfident where neither is right.
_ALIKE = 0.25
_NAMES_SHARE = 0.7
_SOFTENED = 6.0
# How much each of the next names counts in what else a thing may be; of drawings of a style never
# seen, they are right about as often, in relation to each other.
_DOUBTS = (0.5, 0.3, 0.2)
# How much of the token of a number, or of a place, is added to the name of what it is told of.
_TOLD_AGAIN = 0.5
# By how much, in log2, a size is clearly another.
_CLEARLY_OFF = 0.25

_STEPS = 800
_SCENES_PER_STEP = 48
_RATE = 2e-3
_WARMUP = 50
# Of 256 patches, a handful hold a centre.
_CENTRE_BALANCE = 4.0
_SIZE_WEIGHT = 0.1


class Finder(nn.Module):
    """Finds centres and sizes of things."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.narrow = nn.Conv2d(channels, _CHANNELS, 1)
        self.look = nn.ModuleList(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1) for _ in range(2))
        self.tell = nn.Conv2d(_CHANNELS, 2, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Give, for patches [N, P, C], the logit of a centre and log2 of the size.

        Sizes are shares of the picture's side. The shape is [N, 2, side, side].
        """
        side = math.isqrt(patches.shape[1])
        hidden = self.norm(patches).transpose(1, 2).unflatten(2, (side, side))
        hidden = functional.gelu(self.narrow(hidden))
        for convolution in self.look:
            hidden = hidden + functional.gelu(convolution(hidden))
        told: Tensor = self.tell(hidden)
        return told


class Inventory(nn.Module):
    """Lists things.

    Attributes:
        finder: says where they are.
        namer: says what they are.
        numbers: float32 [K, D], the token of 1, 2, ... things of a kind.
        places: float32 [9, D], what is added to the number of a single thing for the place it is
            at, in reading order.
        size: float32 [D], what is added to what is large beside the others, and taken off what is
            small beside them.
        otherwise: float32 [D], what is added to what else a thing may be.
        nothing: float32 [D], the token where there is nothing more to list.
    """

    def __init__(self, channels: int, looks: int, most: int, llm_width: int) -> None:
        """Make one for patch features and looks of some channels, that lists so many things."""
        super().__init__()
        self.most = most
        self.finder = Finder(channels)
        self.namer = CropClassifier(looks, llm_width)
        self.numbers = nn.Parameter(torch.zeros(most, llm_width))
        self.places = nn.Parameter(torch.zeros(len(PLACES) ** 2, llm_width))
        self.size = nn.Parameter(torch.zeros(llm_width))
        self.otherwise = nn.Parameter(torch.zeros(llm_width))
        self.nothing = nn.Parameter(torch.zeros(llm_width))

    def begin_as(
        self,
        *,
        numbers: Tensor,
        places: Tensor,
        names: Tensor,
        size: Tensor,
        otherwise: Tensor,
        nothing: Tensor,
    ) -> None:
        """Set what training begins with; see the attributes, and the namer's for `names`."""
        with torch.no_grad():
            self.namer.tokens.copy_(names)
            self.numbers.copy_(numbers)
            self.places.copy_(places)
            self.size.copy_(size)
            self.otherwise.copy_(otherwise)
            self.nothing.copy_(nothing)

    def forward(
        self,
        patches: Tensor,
        look: Look,
        kinds: Tensor,
        taken: Tensor,
        place_codes: Tensor,
        passed_over: Tensor,
    ) -> Tensor:
        """Give tokens [N, `THING_TOKENS` * `most`, D], kind by kind, then nothing.

        Args:
            patches: [N, P, C] features.
            look: looks closer at what is found.
            kinds: [N, S, D], tokens of what is seen without their places.
            taken: [N, S, 1], 1 where such a token shall stand for the thing there, 0 where its
                name shall.
            place_codes: [S, D] of the places.
            passed_over: bool [N, 1], of which pictures nothing is listed, nor looked at.
        """
        rows, columns, size, found = self._find(patches)
        side = math.isqrt(patches.shape[1])
        there = found & ~passed_over
        looks = self._looks(look, boxes_at(rows, columns, size, side), there)
        logits = self.namer(looks)
        alike = _alike(looks, logits, there)
        count = alike.sum(dim=-1).clamp(min=1)
        together = alike.to(looks.dtype) @ logits
        names = self.namer.tokens[together.topk(1 + len(_DOUBTS)).indices]
        factor = side // math.isqrt(kinds.shape[1])
        tokens = rows // factor * (side // factor) + columns // factor
        shown = kinds.gather(1, tokens.unsqueeze(-1).expand(-1, -1, kinds.shape[-1]))
        named = names[:, :, 0]
        kind = named + taken.gather(1, tokens.unsqueeze(-1)) * (shown - named)
        numbers = self.numbers[count - 1]
        single = (count == 1).unsqueeze(-1)
        place = self.places[places_of(rows, columns, side)]
        placed = numbers + single * place
        told = torch.where(single, place_codes[tokens] + _TOLD_AGAIN * place, _TOLD_AGAIN * numbers)
        thing = kind + told + _beside_others(size, there).unsqueeze(-1) * self.size
        doubted = sum(share * names[:, :, rank] for rank, share in enumerate(_DOUBTS, 1))
        otherwise = doubted + told + self.otherwise
        listed = torch.stack((placed, thing, otherwise), dim=2)
        return self._once(listed, alike).flatten(1, 2)

    def _once(self, listed: Tensor, alike: Tensor) -> Tensor:
        """List a kind where the first of its things is, and behind the last kind, nothing.

        Args:
            listed: [N, K, `THING_TOKENS`, D], of every thing.
            alike: bool [N, K, K], which things are of a kind; nothing is not.
        """
        first = alike.any(dim=2) & ~alike.tril(-1).any(dim=2)
        number = torch.arange(self.most, device=first.device)
        entries = torch.where(first, number, self.most).topk(self.most, largest=False).indices
        entry = entries[..., None, None]
        kinds = listed.gather(1, entry.expand_as(listed))
        return torch.where(first.gather(1, entries)[..., None, None], kinds, self.nothing)

    def _find(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Find things, place by place; behind them stands what is none. Texts do not teach it.

        Returns:
            Rows, columns, log2 of sizes, and whether a thing was found, all [N, K].
        """
        centres, sizes = self.finder(patches).detach().unbind(dim=1)
        side = centres.shape[-1]
        chances = centres.sigmoid()
        peaks = chances >= functional.max_pool2d(chances, 3, stride=1, padding=1)
        ranked, found = (chances * peaks).flatten(1).topk(self.most)
        there = torch.cat((ranked[:, :1] > _LIKELIEST_PRESENT, ranked[:, 1:] > _PRESENT), dim=1)
        there = there & ~_found_twice(found, sizes.flatten(1).gather(1, found), there, side)
        # In reading order, as texts tell them; what is at one place, from above.
        place = places_of(found // side, found % side, side)
        turn = torch.where(there, place * side * side + found, len(self.places) * side * side)
        order = turn.topk(self.most, largest=False).indices
        found, there = found.gather(1, order), there.gather(1, order)
        return found // side, found % side, sizes.flatten(1).gather(1, found), there

    def _looks(self, look: Look, boxes: Tensor, there: Tensor) -> Tensor:
        """Give looks [N, K, C], less the mean, of what is there, which stands first."""
        most = there.sum(dim=1).amax(dim=0).clamp(min=1).item()
        # Told to the exporter, to which it is a number like any other.
        torch._check(most >= 1)
        torch._check(most <= self.most)
        looks = look(boxes[:, :most]) - self.namer.middle
        return functional.pad(looks, (0, 0, 0, self.most - looks.shape[1]))

    def single(self, thing: Tensor) -> Tensor:
        """Give the tokens [N, `THING_TOKENS` * `most`, D] of a picture with one thing.

        Args:
            thing: [N, 1, D], the token of its name and place.
        """
        # `len` would fix the number of pictures in the exported graph.
        nothing = self.nothing.expand(thing.shape[0], recipe.THING_TOKENS * self.most - 2, -1)
        middle = self.places[len(self.places) // 2]
        number = (self.numbers[:1] + middle).expand_as(thing)
        return torch.cat((number, thing + _TOLD_AGAIN * middle, nothing), dim=1)


def boxes_at(rows: Tensor, columns: Tensor, sizes: Tensor, side: int) -> Tensor:
    """Give boxes [..., 3] for cells of a finder's map and log2 of sizes, all [...]."""
    return torch.stack(((columns + 0.5) / side, (rows + 0.5) / side, sizes.exp2()), dim=-1)


def _found_twice(found: Tensor, sizes: Tensor, there: Tensor, side: int) -> Tensor:
    """Say which things, bool [N, K], are parts of one that is likelier, as large ones are found.

    Args:
        found: int64 [N, K], cells of a finder's map, the likeliest first.
        sizes: [N, K], log2.
        there: bool [N, K], which of them are of things.
        side: of the map, in cells.
    """
    rows, columns = (found // side / side).unsqueeze(2), (found % side / side).unsqueeze(2)
    far = torch.sqrt((rows - rows.transpose(1, 2)) ** 2 + (columns - columns.transpose(1, 2)) ** 2)
    reach = _ONE * (sizes.exp2().unsqueeze(2) + sizes.exp2().unsqueeze(1))
    return ((far < reach) & there.unsqueeze(1)).tril(-1).any(dim=2)


def _alike(looks: Tensor, logits: Tensor, there: Tensor) -> Tensor:
    """Say which things are of a kind, bool [N, K, K]; a thing is of its own, nothing of none.

    Args:
        looks: [N, K, C], less the mean.
        logits: [N, K, names], of their names.
        there: bool [N, K], which of them are of things.
    """
    directions = functional.normalize(looks, dim=-1)
    names = (logits / _SOFTENED).softmax(dim=-1).sqrt()
    look_alike = directions @ directions.transpose(1, 2)
    named_alike = names @ names.transpose(1, 2)
    alike = torch.lerp(look_alike, named_alike, _NAMES_SHARE) > _ALIKE
    alike = alike & there.unsqueeze(1) & there.unsqueeze(2)
    # What is alike by way of others is.
    for _ in range(alike.shape[1].bit_length()):
        alike = alike.float() @ alike.float() > 0
    return alike


def _beside_others(sizes: Tensor, there: Tensor) -> Tensor:
    """Give how large things are beside the others of their picture, from -1 to 1.

    Sizes are found well, and in the right order; a small model that sees them one by one compares
    them badly.

    Args:
        sizes: [N, K], log2.
        there: bool [N, K], which of them are of things.
    """
    larger = torch.tanh((sizes.unsqueeze(2) - sizes.unsqueeze(1)) / _CLEARLY_OFF)
    beside = larger * (there.unsqueeze(1) & there.unsqueeze(2))
    others = there.sum(dim=1, keepdim=True) - 1
    return beside.sum(dim=2) / others.clamp(min=1)


def fit_finder(head: VisionHead, shards: Sequence[Path], seed: int) -> None:
    """Train the finder of a head in place, from the start; the rest of the head stays as it is.

    It takes minutes, so a killed run begins anew, and ends the same.

    Args:
        head: whose `inventory.finder` is trained.
        shards: of scenes, some of them of objects.
        seed: of weights and batches.
    """
    finder = head.inventory.finder
    device = finder.tell.weight.device
    torch.manual_seed(seed)
    for module in finder.modules():
        if isinstance(module, nn.Conv2d | nn.LayerNorm):
            module.reset_parameters()
    optimizer = torch.optim.AdamW(finder.parameters(), lr=_RATE, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    seen = [_patches_and_truth(head, load_shard(path)) for path in shards]
    patches = torch.cat([part for part, _ in seen])
    truth = torch.cat([part for _, part in seen])
    for step in range(_STEPS):
        rate = _RATE * min(1.0, (step + 1) / _WARMUP) * (1 - step / _STEPS)
        optimizer.param_groups[0]["lr"] = rate
        rows = torch.randint(len(patches), (_SCENES_PER_STEP,), generator=generator)
        told = finder(patches[rows].float().to(device))
        loss = _finding_loss(told, truth[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _finding_loss(told: Tensor, truth: Tensor) -> Tensor:
    centres, sizes = truth.unbind(dim=1)
    there = (centres > 0).float()
    wrong = functional.binary_cross_entropy_with_logits(
        told[:, 0], there, pos_weight=torch.tensor(_CENTRE_BALANCE, device=told.device)
    )
    off = ((told[:, 1] - sizes) ** 2 * there).sum() / there.sum().clamp(min=1)
    return wrong + _SIZE_WEIGHT * off


def _patches_and_truth(head: VisionHead, shard: FeatureShard) -> tuple[Tensor, Tensor]:
    """Give patch features float16 [scenes, P, C], centres and sizes [scenes, 2, side, side]."""
    patches = head.shard_patches(shard.features)
    side = math.isqrt(patches.shape[1])
    truth = np.zeros((SHARD_SCENES, 2, side, side), np.float32)
    for scene in range(SHARD_SCENES):
        facts = shard.scene_facts(scene)
        for item in facts.objects if isinstance(facts, ObjectFacts) else ():
            row, column = (min(max(int(v * side), 0), side - 1) for v in (item.y, item.x))
            truth[scene, :, row, column] = 1, math.log2(item.size)
    return patches, torch.from_numpy(truth)
