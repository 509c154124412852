"""In: an index folder, an address, a number of workers. Out: a search service, until it is stopped."""

import contextlib
import ipaddress
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .batching import MicroBatcher
from .loading import PREBUILT, backend_of, load_index
from .retriever import Retriever
from .service import RetrievalApp
from .service_config import ServiceConfig
from .service_metrics import ServiceMetrics

if TYPE_CHECKING:
    import uvicorn

_STARTUP_FAILURE = 3  # uvicorn's exit status of a worker whose application did not start
_KEEP_ALIVE_S = 120  # clients keep their connections longer than uvicorn's 5 s, and pay for it
_GRACE_S = 30.0
_HEALTHCHECK_S = 15  # a worker may hold its interpreter for long while a library is imported


def run_service(
    folder: str | Path,
    *,
    config: ServiceConfig | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    num_workers: int = 1,
    device: str = "cpu",
    model: str | Path | None = None,
    on_ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Serves an index until SIGTERM or SIGINT; requests under way are answered first.

    Several workers are processes of their own that share the port and the index's mapped files; one
    that dies is replaced. Call it in the main thread.

    Args:
        folder: What `load_index` opens. An index that is built anew there is served after a restart.
        config: Limits of each worker; the default is `ServiceConfig()`.
        host: Where it listens. Anything but the loopback needs a token in ``config``.
        port: 0 takes a free one.
        num_workers: Processes.
        device: As in `load_index`.
        model: As in `load_index`.
        on_ready: Told the address when all workers answer.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no index, or a setting is bad.
        OSError: If the address cannot be had, or a worker cannot start.
        ImportError: If uvicorn is not installed, or what the index needs.
    """
    config = config or ServiceConfig()
    if not str(folder).startswith(PREBUILT):
        folder = Path(folder).absolute()
    _check(config, host, port, num_workers)
    backend_of(folder)  # says so where there is no index
    open_it = partial(open_served, folder, config, device=device, model=model)
    with contextlib.closing(_bind(host, port)) as listener:
        url = _url(host, listener)
        if num_workers == 1:
            _run_here(open_it, config, listener, partial(on_ready, url))
        else:
            _run_workers(open_it, config, listener, num_workers, partial(on_ready, url))


def open_served(
    folder: str | Path,
    config: ServiceConfig,
    *,
    device: str = "cpu",
    model: str | Path | None = None,
) -> Retriever:
    """The index as a worker searches it.

    A dense one answers concurrent queries together: a matrix product with many costs little more
    than one, and its encoder takes one call at a time anyway.

    Raises:
        OSError, ValueError, LookupError, ImportError: As `load_index`.
    """
    index = load_index(folder, device=device, model=model)
    if backend_of(folder) != "dense":
        return index
    return MicroBatcher(index, max_batch=config.max_batch, window_s=config.batch_window_s)


def _check(config: ServiceConfig, host: str, port: int, num_workers: int) -> None:
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; at least 1 process answers.")
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port is {port}; ports go from 1 to 65535, and 0 takes a free one.")
    if config.token is None and not _is_loopback(host):
        raise ValueError(
            f"{host} can be reached from other machines: set a token (a long random string) that "
            "clients must send, or listen on 127.0.0.1."
        )
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError("A service needs uvicorn: pip install 'maskgym[serve]'.") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen yet: nobody waits while the index opens."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.set_inheritable(True)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise OSError(
            f"Cannot listen on {host}, port {port} ({error.strerror or error}). "
            "Choose another port, or 0 for a free one."
        ) from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _uvicorn_config(app: RetrievalApp, num_workers: int) -> "uvicorn.Config":
    import uvicorn

    return uvicorn.Config(
        app,
        workers=num_workers,
        interface="asgi3",
        lifespan="on",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(_GRACE_S),
        timeout_worker_healthcheck=_HEALTHCHECK_S,
    )


def _run_here(
    open_it: Callable[[], Retriever],
    config: ServiceConfig,
    listener: socket.socket,
    on_ready: Callable[[], object],
) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if not self.should_exit:
                on_ready()

    retriever = open_it()  # here an error is the caller's, not a line in a log
    app = RetrievalApp(lambda: retriever, config)
    with _signals_end_here():
        try:
            Server(_uvicorn_config(app, 1)).run(sockets=[listener])
        except SystemExit as left:
            raise OSError("The service could not start; see the message above.") from left


def _run_workers(
    open_it: Callable[[], Retriever],
    config: ServiceConfig,
    listener: socket.socket,
    num_workers: int,
    on_ready: Callable[[], object],
) -> None:
    from uvicorn.supervisors import Multiprocess

    with tempfile.TemporaryDirectory(prefix="maskgym-serve-") as scratch:
        metrics_file = Path(scratch, "metrics")
        ServiceMetrics.create(metrics_file)
        app = RetrievalApp(open_it, config, metrics_file=metrics_file)
        with _signals_end_here():
            supervisor = Multiprocess(_uvicorn_config(app, num_workers), [listener])
            threading.Thread(
                target=_announce,
                args=(metrics_file, num_workers, supervisor.should_exit, on_ready),
                daemon=True,
            ).start()
            supervisor.run()
        if any(process.exitcode == _STARTUP_FAILURE for process in supervisor.processes):
            raise OSError("A worker could not start; see the message above.")


def _announce(
    metrics_file: Path,
    num_workers: int,
    is_over: threading.Event,
    on_ready: Callable[[], object],
) -> None:
    metrics = ServiceMetrics(metrics_file, is_worker=False)
    try:
        while metrics.total("ready_workers") < num_workers:
            if is_over.is_set():
                return
            time.sleep(0.05)
    finally:
        metrics.close()
    on_ready()


@contextlib.contextmanager
def _signals_end_here() -> Iterator[None]:
    """Lets a stopped service return: uvicorn raises a signal again once it has dealt with it."""
    previous = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
