"""The icon sets that scenes are drawn from: fetched from the npm registry, checked, rendered.

In: a folder for downloads. Out: RGBA pictures of icons. Every set is pinned by version and SHA-256
and has a free licence, listed in NOTICE.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from edge_et.errors import AssetError
from edge_et.export.steps import atomic_output
from edge_et.tuning.mini.assets.plain_icons import PLAIN_ICONS
from edge_et.tuning.mini.concepts import THINGS

ICON_PIXELS = 192

_EMOJI = {thing.name: thing.icons for thing in THINGS}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IconSet:
    """One published icon set: an npm package with an Iconify `icons.json` inside.

    Attributes:
        package: on npm.
        version: of the package.
        license: of the drawings, an SPDX name.
        sha256: of the package's archive.
        lines: whether its drawings are of one colour, black lines and shadows.
        plain: whether it is for buttons and maps, and names its drawings as `plain_icons` tells.
        misnamed: slugs, with spaces between, of what it draws otherwise than other sets do.
    """

    package: str
    version: str
    license: str
    sha256: str
    lines: bool = False
    plain: bool = False
    misnamed: str = ""


ICON_SETS = {
    "noto": IconSet(
        package="@iconify-json/noto",
        version="1.2.9",
        license="Apache-2.0",
        sha256="3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    "twemoji": IconSet(
        package="@iconify-json/twemoji",
        version="1.2.5",
        license="CC-BY-4.0",
        sha256="19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
    "fluent-emoji": IconSet(
        package="@iconify-json/fluent-emoji",
        version="1.2.7",
        license="MIT",
        sha256="8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
    ),
    "fluent-emoji-flat": IconSet(
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        license="MIT",
        sha256="7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "noto-v1": IconSet(
        package="@iconify-json/noto-v1",
        version="1.2.5",
        license="Apache-2.0",
        sha256="2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
    ),
    "fxemoji": IconSet(
        package="@iconify-json/fxemoji",
        version="1.2.2",
        license="Apache-2.0",
        sha256="f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
    ),
    "emojione": IconSet(
        package="@iconify-json/emojione",
        version="1.2.3",
        license="CC-BY-4.0",
        sha256="26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
    ),
    "emojione-v1": IconSet(
        package="@iconify-json/emojione-v1",
        version="1.2.3",
        license="CC-BY-SA-4.0",
        sha256="6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
    ),
    "streamline-emojis": IconSet(
        package="@iconify-json/streamline-emojis",
        version="1.2.4",
        license="CC-BY-4.0",
        sha256="5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
        misnamed="turkey",
    ),
    "fluent-emoji-high-contrast": IconSet(
        package="@iconify-json/fluent-emoji-high-contrast",
        version="1.2.6",
        license="MIT",
        sha256="0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
        lines=True,
    ),
    "emojione-monotone": IconSet(
        package="@iconify-json/emojione-monotone",
        version="1.2.1",
        license="CC-BY-4.0",
        sha256="40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e",
        lines=True,
    ),
    "game-icons": IconSet(
        package="@iconify-json/game-icons",
        version="1.2.4",
        license="CC-BY-3.0",
        sha256="f5758efb34d91c4f50b941f355f16ee73938625e5996fabc25171288404460a4",
        lines=True,
        misnamed="fountain",
    ),
    "icon-park-outline": IconSet(
        package="@iconify-json/icon-park-outline",
        version="1.2.4",
        license="Apache-2.0",
        sha256="e4c29776086e46ed7d113b7d44798a36ca74df6dcfb949da142db34714ab7c8a",
        lines=True,
        plain=True,
        misnamed="apple kettle turkey egg earth telescope trumpet scissors "
        "anchor keyboard alarm telephone football ring handbag envelope",
    ),
    "lucide": IconSet(
        package="@iconify-json/lucide",
        version="1.2.137",
        license="ISC",
        sha256="e74db8c3a55fff55bc82de21268c4bced9f65ff10aacc0d5f3a395b0e93243c3",
        lines=True,
        plain=True,
        misnamed="bike bolt delete",
    ),
    "lucide-lab": IconSet(
        package="@iconify-json/lucide-lab",
        version="1.2.3",
        license="ISC",
        sha256="ea0a3dc587d60e65b4e710f2239a54a6609fcd19b214f9eb0df66874f920df08",
        lines=True,
        plain=True,
    ),
    "mdi": IconSet(
        package="@iconify-json/mdi",
        version="1.2.3",
        license="Apache-2.0",
        sha256="ddd817a7213f91de51147943915c0cda8c8b818a53c92b5c068cfa9883c6d7ac",
        lines=True,
        plain=True,
        misnamed="apple bike burger chocolate cup wine bolt hand-palm glove",
    ),
    "ph": IconSet(
        package="@iconify-json/ph",
        version="1.2.2",
        license="MIT",
        sha256="e3a582a047d9829fc7e8842c660d8065e598d1b68bb58cb68e75a1f1e5a614cc",
        lines=True,
        plain=True,
        misnamed="needle",
    ),
    "tabler": IconSet(
        package="@iconify-json/tabler",
        version="1.2.41",
        license="MIT",
        sha256="3bf99af156d28d05568aff524a35ed1ba238df640a7835a5e02e1f8e439685f6",
        lines=True,
        plain=True,
        misnamed="bike cup jacket needle",
    ),
    "hugeicons": IconSet(
        package="@iconify-json/hugeicons",
        version="1.2.35",
        license="MIT",
        sha256="cca09de913319938961fa0613a8eb42952f76c3ee13a7c68ef411091590c5d8b",
        lines=True,
        plain=True,
        misnamed="apple bike moon bolt football keyboard kite lock purse",
    ),
    "fa6-solid": IconSet(
        package="@iconify-json/fa6-solid",
        version="1.2.4",
        license="CC-BY-4.0",
        sha256="082c792eaad4751626438773fa7360cb23f495b687cf2dd01b2b0fccc7f6af8b",
        lines=True,
        plain=True,
        misnamed="tree",
    ),
    "openmoji": IconSet(
        package="@iconify-json/openmoji",
        version="1.2.29",
        license="CC-BY-SA-4.0",
        sha256="03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
    ),
}


class IconLibrary:
    """Icons of one style, rendered on demand and kept as PNG files beside the download.

    Args:
        style: a key of `ICON_SETS`.
        folder: where downloads and rendered icons live.

    Raises:
        AssetError: there is no such style, or it cannot be fetched or is not the pinned file.
    """

    def __init__(self, style: str, folder: Path) -> None:
        if style not in ICON_SETS:
            raise AssetError(f"there is no style {style!r}; there are {', '.join(ICON_SETS)}")
        self.style = style
        self.lines = ICON_SETS[style].lines
        self._png_folder = folder / style
        self._archive = folder / f"{style}-{ICON_SETS[style].version}.tgz"
        if not self._archive.exists():
            _download(ICON_SETS[style], self._archive)

    @functools.cached_property
    def all_slugs(self) -> frozenset[str]:
        """Lists all of the set's icons that show what others do."""
        slugs = frozenset(self._icons["icons"]) | frozenset(self._icons.get("aliases", {}))
        return slugs - frozenset(ICON_SETS[self.style].misnamed.split())

    def slugs(self, thing: str) -> tuple[str, ...]:
        """List the set's icons of a thing."""
        named = PLAIN_ICONS if ICON_SETS[self.style].plain else _EMOJI
        return tuple(slug for slug in named.get(thing, ()) if slug in self.all_slugs)

    def icon(self, slug: str) -> Image.Image:
        """Return the icon as an RGBA picture, `ICON_PIXELS` on its longer side.

        Raises:
            AssetError: the set has no icon of that name.
        """
        path = self._png_folder / f"{slug}.png"
        if not path.exists():
            with atomic_output(path) as partial:
                partial.write_bytes(self._render(slug))
        return _open_png(path)

    def _render(self, slug: str) -> bytes:
        import resvg_py

        icons = self._icons
        entry = icons["icons"].get(icons.get("aliases", {}).get(slug, {}).get("parent", slug))
        if entry is None:
            raise AssetError(f"icon set {self.style} has no icon {slug!r}")
        width = entry.get("width", icons["width"])
        height = entry.get("height", icons["height"])
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}">'
            f"{entry['body']}</svg>"
        )
        larger = ICON_PIXELS / max(width, height)
        return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=round(width * larger)))

    @functools.cached_property
    def _icons(self) -> dict:
        with tarfile.open(self._archive) as archive:
            member = archive.extractfile("package/icons.json")
            if member is None:
                raise AssetError(f"{self._archive} holds no icons.json")
            return json.load(io.TextIOWrapper(member, encoding="utf-8"))


@functools.lru_cache(maxsize=2048)
def _open_png(path: Path) -> Image.Image:
    return Image.open(path).convert("RGBA")


def _download(icon_set: IconSet, target: Path) -> None:
    npm = shutil.which("npm")
    name = f"{icon_set.package}@{icon_set.version}"
    if npm is None:
        raise AssetError(f"fetching {name} needs npm; install it (Debian: apt install npm)")
    target.parent.mkdir(parents=True, exist_ok=True)
    _log.info("fetching %s (%s)", name, icon_set.license)
    packed = subprocess.run(
        [npm, "pack", name, "--silent", "--pack-destination", str(target.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    if packed.returncode != 0:
        raise AssetError(f"npm could not fetch {name}: {packed.stderr.strip()[-300:]}")
    fetched = target.parent / packed.stdout.split()[-1]
    digest = hashlib.sha256(fetched.read_bytes()).hexdigest()
    if digest != icon_set.sha256:
        fetched.unlink()
        raise AssetError(f"{name} has SHA-256 {digest}, expected {icon_set.sha256}")
    fetched.replace(target)
