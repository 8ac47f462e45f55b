"""`edge-et serve`: a page, and a server for programs of the OpenAI or the Ollama protocol."""

import os
from pathlib import Path

import click

from edge_et.cli.options import add_options
from edge_et.errors import MissingExtraError, OptionError
from edge_et.options import DEFAULT_MAX_IMAGES, DEFAULT_MAX_PIXELS, LoadOptions


@click.command()
@click.argument("bundles", nargs=-1)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8890, type=click.IntRange(0, 65535), help="Port; 0: any.")
@click.option(
    "--api-key-file",
    type=click.Path(dir_okay=False),
    help="File with the key that clients have to send; or set EDGE_ET_API_KEY.",
)
@click.option(
    "--deadline-s",
    default=50.0,
    type=click.FloatRange(min=1),
    help="An answer is cut short that long after its request.",
)
@click.option(
    "--max-waiting",
    default=16,
    type=click.IntRange(0, 10_000),
    help="Requests that may wait; more get status 429.",
)
@click.option(
    "--contexts",
    default=1,
    type=click.IntRange(1, 64),
    help="Requests under way at once over one bundle, with KV caches of their own.",
)
@click.option("--threads", type=click.IntRange(1, 512), help="Threads of the models.")
@click.option(
    "--max-tokens",
    default=1024,
    type=click.IntRange(1),
    help="Most tokens of an answer, whatever a client asks for.",
)
@click.option(
    "--max-body-bytes",
    default=64 * 2**20,
    type=click.IntRange(1),
    help="Most bytes of a request.",
)
@click.option(
    "--max-images",
    default=DEFAULT_MAX_IMAGES,
    type=click.IntRange(1),
    help="Most pictures of a request.",
)
@click.option(
    "--max-pixels",
    default=DEFAULT_MAX_PIXELS,
    type=click.IntRange(1),
    help="Most pixels of a picture.",
)
@add_options(LoadOptions, only=("max_memory_bytes",))
@click.option(
    "--allow-host",
    multiple=True,
    help="A name under which clients know this server, e.g. nas.local. Addresses and localhost "
    "need none. Repeatable.",
)
@click.option(
    "--image-host",
    multiple=True,
    help="A public host from which pictures may be fetched; otherwise clients send them along. "
    "Repeatable.",
)
@click.option(
    "--cors-origin", multiple=True, help="An origin whose pages may ask from a browser. Repeatable."
)
@click.option(
    "--keep-alive-s",
    default=-1.0,
    help="A bundle that nobody asks for that long is unloaded; below 0: it stays.",
)
@click.option(
    "--cache-dir", type=click.Path(file_okay=False), help="Keeps what was read of pictures."
)
def serve(
    bundles: tuple[str, ...],
    api_key_file: str | None,
    allow_host: tuple[str, ...],
    image_host: tuple[str, ...],
    cors_origin: tuple[str, ...],
    cache_dir: str | None,
    host: str,
    port: int,
    deadline_s: float,
    max_waiting: int,
    contexts: int,
    threads: int | None,
    max_tokens: int,
    max_body_bytes: int,
    max_images: int,
    max_pixels: int,
    max_memory_bytes: int | None,
    keep_alive_s: float,
) -> None:
    """Serve BUNDLES (names or folders; the installed mini if omitted) over HTTP.

    A browser gets a page that asks about pictures at http://HOST:PORT. Programs that speak the
    OpenAI protocol get http://HOST:PORT/v1, those that speak Ollama's http://HOST:PORT. The first
    bundle answers requests that name none.
    """
    try:
        import edge_et.serve as server
    except ModuleNotFoundError as err:
        raise MissingExtraError(err.name or "starlette", "serve") from err
    server.serve(
        server.ServeSettings(
            bundles=bundles or ("mini",),
            host=host,
            port=port,
            api_key=_read_key(api_key_file),
            deadline_s=deadline_s,
            max_waiting=max_waiting,
            contexts=contexts,
            threads=threads,
            max_tokens=max_tokens,
            max_body_bytes=max_body_bytes,
            max_images=max_images,
            max_pixels=max_pixels,
            max_memory_bytes=max_memory_bytes,
            allowed_hosts=allow_host,
            image_hosts=image_host,
            cors_origins=cors_origin,
            keep_alive_s=keep_alive_s,
            cache_dir=None if cache_dir is None else Path(cache_dir),
        )
    )


def _read_key(path: str | None) -> str | None:
    """Return the key; a command line would show it to everybody on the machine.

    Raises:
        OptionError: the file cannot be read, or holds none.
    """
    if path is None:
        key = os.environ.get("EDGE_ET_API_KEY")
        return key.strip() if key else None
    try:
        key = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as err:
        raise OptionError("api_key_file", path, f"a readable file ({err})") from err
    if not key:
        raise OptionError("api_key_file", path, "a file that holds a key")
    return key
