"""The mini model's vision side in training: a frozen trunk, and a head that learns.

In: pictures, of which the trunk makes features once. Out: image tokens. Trunk and head share their
modules with the `MiniVision` that is exported, so that export sees what was learnt.

Three networks look at a picture. DINOv2 and the projector say what they were taught with drawings;
DINOv2 looks at each thing that was found once more. A classifier of photographs names what it was
taught with photographs; where `WordTrust` expects it to be right, its word takes the token's place.
Where it expects that of much of a picture, what the classifier says of the whole is all that is
listed. A reader of print tells characters, which `Letters` makes further tokens of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_et.errors import TuningError
from edge_et.export.vision.projector import PixelShuffleProjector
from edge_et.export.vision.torch_tower import (
    Dinov2Patches,
    TowerWithProjector,
    dinov2_module_name,
    early_features,
)
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.ocr.weights import CHARACTERS
from edge_et.tuning.mini.vision.backbone import TOWER_PIXELS, pixel_values
from edge_et.tuning.mini.vision.crop_encoder import CLOSER_PIXELS, CropEncoder
from edge_et.tuning.mini.vision.inventory import Inventory
from edge_et.tuning.mini.vision.letter_tokens import Letters
from edge_et.tuning.training.precision import working_precision

if TYPE_CHECKING:
    from transformers import Dinov2Model

    from edge_et.tuning.mini.vision.classifier import WordClassifier
    from edge_et.tuning.training.train import VisionPart

Read = Callable[[np.ndarray], np.ndarray]
"""From pixel values [N, 3, H, W] to a reading [N, R, 4]; a `ocr.graph.PrintReader` is one."""

_TRUST_HIDDEN = 32
# Closed, until training opens it.
_FIRST_TRUST = -4.0
# A picture in which the classifier is trusted that much on average is a photograph; of drawn scenes
# one in fifty reaches that.
_PHOTOGRAPH = 0.08
_AT_ONCE = 32
# Of several words that a place may show, the likeliest is meant.
_SHARPNESS = 3


class VisionTrunk:
    """What is not trained: the tower's first layers, the classifier and the reader.

    Args:
        backbone: the whole tower.
        classifier: looks at the same pictures.
        read: looks at them as well.
    """

    def __init__(self, backbone: Dinov2Patches, classifier: WordClassifier, read: Read) -> None:
        self._backbone = backbone
        self._classifier = classifier
        self._read = read

    def __call__(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Compute the features that the head takes.

        Args:
            pictures: uint8 [H, W, 3] each, `TOWER_PIXELS` square.

        Returns:
            float16 [N, 1 + 2 P + S + R + H, C]: those of `trunk_features`, then the reading, padded
            with zeros, then the pixel values. `tower` gives the first 1 + 2 P alone, in a third of
            the time.
        """
        device = self._backbone.positions.device
        pixels = pixel_values(pictures)
        with torch.no_grad(), working_precision(device):
            features = trunk_features(self._backbone, self._classifier, pixels.to(device))
        reading = self._read(pixels.numpy())
        padded = np.pad(reading, ((0, 0), (0, 0), (0, features.shape[-1] - reading.shape[-1])))
        rows = pixels.numpy().reshape(len(pixels), -1, features.shape[-1])
        return np.concatenate((features.cpu().numpy(), padded, rows), axis=1).astype(np.float16)

    def tower(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Compute what `tower_features` gives for such pictures, float16 [N, 1 + 2 P, C]."""
        device = self._backbone.positions.device
        with torch.no_grad(), working_precision(device):
            features = tower_features(self._backbone, pixel_values(pictures).to(device))
        return features.cpu().numpy().astype(np.float16)


def trunk_features(backbone: Dinov2Patches, classifier: WordClassifier, pixels: Tensor) -> Tensor:
    """Run what is not trained.

    Args:
        backbone: the tower, P patches of C channels.
        classifier: with S places and at most C words.
        pixels: float32 [N, 3, H, W].

    Returns:
        float32 [N, 1 + 2 P + S, C]: those of `tower_features`, then the classifier's word shares,
        padded with zeros.
    """
    # Depthwise convolutions in bfloat16 take ten times as long on a CPU.
    with torch.autocast(pixels.device.type, enabled=False):
        shares = classifier(pixels)
    shares = functional.pad(shares, (0, backbone.width // 2 - shares.shape[-1]))
    return torch.cat((tower_features(backbone, pixels), shares), dim=1)


def tower_features(backbone: Dinov2Patches, pixels: Tensor) -> Tensor:
    """Run the tower's layers that are not trained.

    Args:
        backbone: the tower, P patches of C channels.
        pixels: float32 [N, 3, H, W].

    Returns:
        float32 [N, 1 + 2 P, C]: the hidden states where training begins, class token first, then
        the early features.
    """
    hidden = backbone.embed(pixels)
    for number, layer in enumerate(backbone.layers[: recipe.FROZEN_LAYERS], 1):
        hidden = layer(hidden)
        if number == recipe.EARLY_LAYER:
            early = early_features(hidden)
    return torch.cat((hidden.float(), early.float()), dim=1)


class WordTrust(nn.Module):
    """Where the classifier's word is to be taken for what a token shows.

    Attributes:
        vectors: float32 [words, D], the image token that stands for each word.
    """

    vectors: Tensor

    def __init__(self, words: int, channels: int, llm_width: int) -> None:
        super().__init__()
        self.words = words
        self.expand = nn.Linear(channels + 3, _TRUST_HIDDEN)
        self.decide = nn.Linear(_TRUST_HIDDEN, 1)
        self.register_buffer("vectors", torch.zeros(words, llm_width))
        self.reset(torch.Generator().manual_seed(0))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights that trust nothing yet."""
        with torch.no_grad():
            for linear, bias in ((self.expand, 0.0), (self.decide, _FIRST_TRUST)):
                # Drawn on the CPU, so that every device begins with the same ones.
                drawn = torch.randn(linear.weight.shape, generator=generator)
                linear.weight.copy_(drawn * linear.in_features**-0.5)
                linear.bias.fill_(bias)

    def logits(self, early: Tensor, shares: Tensor) -> Tensor:
        """Judge every place.

        Args:
            early: [N, S, C], how each place looks.
            shares: [N, S, words] of the classifier.

        Returns:
            [N, S], of the chance that the likeliest word is right.
        """
        overall = shares.mean(dim=1, keepdim=True)
        best = shares.amax(dim=-1, keepdim=True)
        best_overall = overall.amax(dim=-1, keepdim=True).expand_as(best)
        agreement = (shares * overall).sum(dim=-1, keepdim=True)
        seen = torch.cat((early, best, best_overall, agreement), dim=-1)
        made: Tensor = self.decide(functional.gelu(self.expand(seen)))
        return made[..., 0]

    def named(self, shares: Tensor) -> Tensor:
        """Give the tokens [N, S, D] that stand for the classifier's words."""
        sharp = shares**_SHARPNESS
        named: Tensor = (sharp / (sharp.sum(dim=-1, keepdim=True) + 1e-9)) @ self.vectors
        return named


class VisionHead(nn.Module):
    """The tower's last layers, the projector, and what looks at the tokens once more.

    Attributes:
        layers: the tower's layers from `recipe.FROZEN_LAYERS` on, and its final norm.
        projector: patch features to image tokens.
        additions: what the tower learnt for the closer look alone.
        trust: decides between the projector's token and the classifier's word.
        inventory: lists the things that are seen.
        letters: what was read to image tokens.
    """

    def __init__(
        self,
        backbone: Dinov2Patches,
        closer: CropEncoder,
        projector: PixelShuffleProjector,
        words: int,
    ) -> None:
        super().__init__()
        # No module of the head's own, as most of it is the trunk's.
        self._look_closer = closer.forward
        self.additions = closer.additions
        self.layers = nn.Sequential(*backbone.layers[recipe.FROZEN_LAYERS :], backbone.norm)
        self.projector = projector
        self.trust = WordTrust(words, backbone.width // 2, recipe.LLM_WIDTH)
        self.inventory = Inventory(
            backbone.width, closer.width, recipe.LISTED_THINGS, recipe.LLM_WIDTH
        )
        self.letters = Letters(len(CHARACTERS), math.isqrt(recipe.SEEN_TOKENS), recipe.LLM_WIDTH)
        self._patches = backbone.positions.shape[1]
        self._side = math.isqrt(self._patches)
        side = math.isqrt(recipe.SEEN_TOKENS)
        self._middle = side // 2 * (side + 1)
        self.register_load_state_dict_pre_hook(_rename_stored)

    def learning_parts(self) -> dict[VisionPart, list[nn.Parameter]]:
        """Return what texts may teach: the tower's layers, and what makes tokens."""
        makers = (self.projector, self.inventory, self.letters)
        return {
            "tower": [*self.layers.parameters()],
            "projector": [p for maker in makers for p in maker.parameters()],
        }

    def forward(self, features: Tensor) -> Tensor:
        """Give image tokens [N, S + L + R, D].

        Args:
            features: [N, 1 + 2 P + S + R + H, C] of the trunk.

        Raises:
            TuningError: the features were made by another version of edge-et.
        """
        begin = 2 * self._patches + 1 + recipe.SEEN_TOKENS
        reading = features[:, begin : begin + recipe.READ_TOKENS, :4]
        pixels = features[:, begin + recipe.READ_TOKENS :]
        if pixels[0].numel() != 3 * TOWER_PIXELS**2:
            raise TuningError(
                "the features were made by another version of edge-et; remove the folder 'features'"
                " in the work folder to have them made anew"
            )
        pixels = pixels.reshape(-1, 3, TOWER_PIXELS, TOWER_PIXELS)
        return torch.cat((self.seen(features, pixels), self.read(reading)), dim=1)

    def read(self, reading: Tensor) -> Tensor:
        """Give the tokens [N, R, D] of what was read, [N, R, 4]."""
        tokens: Tensor = self.letters(reading, self.projector.place_codes)
        return tokens

    def seen(self, features: Tensor, pixel_values: Tensor) -> Tensor:
        """Give the tokens of what is seen, and of the things that are listed, [N, S + L, D].

        Args:
            features: [N, 1 + 2 P + S, C] or more, of the trunk.
            pixel_values: [N, 3, H, W] of the same pictures.
        """

        def look(boxes: Tensor) -> Tensor:
            return self.look_closer(pixel_values, boxes)

        codes = self.projector.place_codes
        patches = self.patches(features)
        own = self.projector(patches) - codes
        looks, shares = self.judged(features)
        taken = self.trust.logits(looks, shares).sigmoid().unsqueeze(-1)
        kinds = own + taken * (self.trust.named(shares) - own)
        is_photograph = taken.mean(dim=1) > _PHOTOGRAPH
        listed = self.inventory(patches, look, kinds, taken, codes, is_photograph)
        overall = self.trust.named(shares.mean(dim=1, keepdim=True))
        as_one = self.inventory.single(overall + codes[self._middle])
        listed = torch.where(is_photograph.unsqueeze(1), as_one, listed)
        return torch.cat((kinds + codes, listed), dim=1)

    def look_closer(self, pixel_values: Tensor, boxes: Tensor) -> Tensor:
        """Give how things look, [N, K, C]; names are not learnt from texts, nor is this."""
        with torch.no_grad():
            return self._look_closer(pixel_values, boxes)

    def own_tokens(self, features: Tensor) -> Tensor:
        """Give what the tower and the projector see, [N, S, D]."""
        tokens: Tensor = self.projector(self.patches(features))
        return tokens

    def patches(self, features: Tensor) -> Tensor:
        """Give the late and early features of patches, [N, P, 2 C]."""
        late = self.layers(features[:, : self._patches + 1])[:, 1:]
        return torch.cat((late, self._early(features)), dim=-1)

    def shard_patches(self, features: np.ndarray) -> Tensor:
        """Give `patches` of many scenes, some at a time, float16 [scenes, P, 2 C] on the CPU."""
        device = self.projector.place_codes.device
        made = []
        with torch.no_grad(), working_precision(device):
            for start in range(0, len(features), _AT_ONCE):
                some = torch.from_numpy(features[start : start + _AT_ONCE]).float().to(device)
                made.append(self.patches(some).half().cpu())
        return torch.cat(made)

    def judged(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Give what trust is decided by.

        Returns:
            How each place looks [N, S, C], and the classifier's word shares [N, S, words].
        """
        begin = 2 * self._patches + 1
        shares = features[:, begin : begin + recipe.SEEN_TOKENS, : self.trust.words]
        places = self._early(features).unflatten(1, (self._side, self._side)).permute(0, 3, 1, 2)
        looks = functional.avg_pool2d(places, recipe.PIXEL_SHUFFLE).flatten(2).transpose(1, 2)
        return looks, shares

    def _early(self, features: Tensor) -> Tensor:
        return features[:, self._patches + 1 : 2 * self._patches + 1]


class MiniVision(TowerWithProjector):
    """What is exported: pixel values to the image tokens of what is seen."""

    def __init__(
        self,
        backbone: Dinov2Patches,
        closer: CropEncoder,
        classifier: WordClassifier,
        head: VisionHead,
    ) -> None:
        super().__init__(backbone, head.projector)
        # The head looks by it; here it is for the exporter to find its weights.
        self.closer = closer
        self.classifier = classifier
        self.head = head

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Give `image_tokens [N, S, D]` for `pixel_values [N, 3, H, W]`."""
        assert isinstance(self.backbone, Dinov2Patches)
        features = trunk_features(self.backbone, self.classifier, pixel_values)
        tokens: Tensor = self.head.seen(features, pixel_values)
        return tokens


def split_vision(
    tower: Dinov2Model, classifier: WordClassifier, read: Read
) -> tuple[VisionTrunk, VisionHead, MiniVision]:
    """Split a tower, with a new projector behind it, into what is frozen and what is trained.

    Args:
        tower: DINOv2-small; its modules are shared.
        classifier: looks at the same pictures; shared as well.
        read: looks at them as well.

    Returns:
        Trunk, head, and both joined for export.
    """
    backbone = Dinov2Patches(tower, TOWER_PIXELS, early_layer=recipe.EARLY_LAYER)
    backbone.patch_projection.requires_grad_(requires_grad=False)
    backbone.layers[: recipe.FROZEN_LAYERS].requires_grad_(requires_grad=False)
    closer = CropEncoder(Dinov2Patches(tower, CLOSER_PIXELS))
    projector = PixelShuffleProjector(
        vision_width=backbone.width,
        factor=recipe.PIXEL_SHUFFLE,
        hidden=recipe.PROJECTOR_HIDDEN,
        llm_width=recipe.LLM_WIDTH,
        places=recipe.SEEN_TOKENS,
    )
    head = VisionHead(backbone, closer, projector, len(classifier.words))
    vision = MiniVision(backbone, closer, classifier, head)
    return VisionTrunk(backbone, classifier, read), head, vision


def _rename_stored(head: nn.Module, state: dict[str, Tensor], *_: object) -> None:
    """Let a head take layers that were saved with the module names of transformers 4."""
    for name in list(state):
        state[dinov2_module_name(name)] = state.pop(name)
