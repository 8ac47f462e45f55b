"""Debian's free fonts, for what is printed in scenes."""

from __future__ import annotations

from pathlib import Path

from edge_et.tuning.mini.assets.debian import DebianPackage, unpack

FONT_PACKAGES = (
    DebianPackage(
        name="fonts-dejavu-core",
        path="pool/main/f/fonts-dejavu/fonts-dejavu-core_2.37-6_all.deb",
        license="Bitstream Vera and Arev licences",
        sha256="8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76",
    ),
    DebianPackage(
        name="fonts-liberation2",
        path="pool/main/f/fonts-liberation2/fonts-liberation2_2.1.5-1_all.deb",
        license="OFL-1.1",
        sha256="35ffaa54f117e633e89a5da89af235a073b34dbe582726fbf6989568f7fd9bda",
    ),
    DebianPackage(
        name="fonts-freefont-ttf",
        path="pool/main/f/fonts-freefont/fonts-freefont-ttf_20120503-10_all.deb",
        license="GPL-3.0-or-later with font exception",
        sha256="4ca1c21ebc479198a3a5879d236c8317d6f7b2f1c403f7890e24c02eead05615",
    ),
    DebianPackage(
        name="fonts-lato",
        path="pool/main/f/fonts-lato/fonts-lato_2.0-2.1_all.deb",
        license="OFL-1.1",
        sha256="86f50af146a7df9eca4e69f0262e73e708908435ebfa833df797adfa08843bc5",
    ),
    DebianPackage(
        name="fonts-roboto-unhinted",
        path="pool/main/f/fonts-roboto/fonts-roboto-unhinted_0~20170802-3_all.deb",
        license="Apache-2.0",
        sha256="f89cf7d8a589489daecf750031ec50456ab3e648d49ff544f0f08753268fbd91",
    ),
)

_FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono-Bold",
    "DejaVuSerif-Bold",
    "LiberationMono-Regular",
    "LiberationSans-Regular",
    "LiberationSans-Bold",
    "LiberationSerif-Regular",
    "LiberationSerif-Bold",
    "FreeSans",
    "FreeSansBold",
    "FreeMonoBold",
    "Lato-Regular",
    "Lato-Black",
    "RobotoCondensed-Bold",
    "Roboto-Medium",
)
_HELD_OUT_FACES = ("FreeSerifBold", "Lato-Bold", "Roboto-Black")


class FontLibrary:
    """Font files, fetched when they are first asked for.

    Args:
        folder: where downloads live.

    Raises:
        AssetError: a package cannot be had.
    """

    def __init__(self, folder: Path) -> None:
        roots = [unpack(package, folder) for package in FONT_PACKAGES]
        self._files = {path.stem: path for root in roots for path in root.rglob("*.ttf")}

    def fonts(self, *, held_out: bool = False) -> tuple[Path, ...]:
        """List the faces for training, or those kept from it."""
        return tuple(self._files[face] for face in (_HELD_OUT_FACES if held_out else _FACES))
