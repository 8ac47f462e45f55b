"""Pictures of a request: base64, or a URL that holds it.

In: what a body says. Out: the bytes of a file, not decoded as a picture yet; the pipeline does
that, within its limits. A picture that cannot be had is an error, never left out.
"""

import base64
import binascii
from urllib.parse import unquote, unquote_to_bytes

from edge_et.serve.bodies import bad_request
from edge_et.serve.errors import RequestError
from edge_et.serve.remote_pictures import fetch_picture
from edge_et.serve.settings import ServeSettings


def from_base64(text: object) -> bytes:
    """Return what base64 stands for; line breaks and missing padding are borne with.

    Some clients of Ollama send a whole data URL where base64 belongs; that is taken, too.

    Raises:
        RequestError: it is none, or empty.
    """
    if not isinstance(text, str):
        raise _unusable("an image is no text of base64")
    if text.startswith("data:"):
        return _from_data_url(text)
    return _decoded(text)


def _decoded(text: str) -> bytes:
    data = "".join(text.split()).rstrip("=")
    data = data.replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as err:
        raise _unusable("an image is no base64") from err
    if not decoded:
        raise _unusable("an image is empty")
    return decoded


async def from_url(url: object, settings: ServeSettings) -> bytes:
    """Return what a URL holds.

    Args:
        url: a data URL; or of http or https, if the server may fetch from its host.
        settings: name the hosts.

    Raises:
        RequestError: it is none of these, or what it holds cannot be had.
    """
    if not isinstance(url, str):
        raise _unusable("an image's url is no text")
    scheme = url.partition(":")[0].strip().lower()
    if scheme == "data":
        return _from_data_url(url)
    if scheme in ("http", "https"):
        return await fetch_picture(url, settings)
    raise _unusable("an image's url is neither a data URL nor one of http or https")


def _from_data_url(url: str) -> bytes:
    head, comma, data = url.partition(",")
    kind, *parameters = head[len("data:") :].lower().split(";")
    if not comma:
        raise _unusable("an image's data URL has no comma")
    kind = kind.strip()
    if kind and not kind.startswith("image/") and kind not in _NEUTRAL_KINDS:
        raise _unusable(f"an image's data URL says that it is no image, but {kind[:60]!r}")
    if "base64" in (parameter.strip() for parameter in parameters):
        return _decoded(unquote(data) if "%" in data else data)
    try:
        decoded = unquote_to_bytes(data)
    except UnicodeEncodeError as err:
        raise _unusable("an image's data URL holds lone surrogates") from err
    if not decoded:
        raise _unusable("an image is empty")
    return decoded


_NEUTRAL_KINDS = ("application/octet-stream", "text/plain", "binary/octet-stream")


def _unusable(message: str) -> RequestError:
    return bad_request(message, "invalid_image")
