"""Fixtures of the retrieval tests: a search service in this process, over a real socket."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from maskgym.retrieval import Retriever
from maskgym.retrieval.service import RetrievalApp
from maskgym.retrieval.service_config import ServiceConfig


@contextmanager
def running(
    retriever: Retriever, config: ServiceConfig | None = None, *, port: int = 0
) -> Iterator[str]:
    """Serves a retriever from a thread; gives the address."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs pip install 'maskgym[serve]'")
    listener = socket.create_server(("127.0.0.1", port))
    app = RetrievalApp(lambda: retriever, config)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(40)
        assert not thread.is_alive()


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[str]]:
    """Serves a retriever for the length of a `with`, at a port."""
    return running


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A function that serves a retriever until the test ends."""
    with ExitStack() as stack:

        def start(retriever: Retriever, config: ServiceConfig | None = None) -> str:
            return stack.enter_context(running(retriever, config))

        yield start
