import json
import pickle
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maskgym.envs.sandbox import ExecStatus, SandboxLimits, SubprocessSandbox
from maskgym.envs.sandbox.http_sandbox import HTTPSandbox

_WIRE_STATUS = {ExecStatus.TIMEOUT: "TimeLimitExceeded", ExecStatus.SANDBOX_ERROR: "Error"}


class Service(ThreadingHTTPServer):
    """A service that speaks SandboxFusion's `/run_code` and really runs what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        self.faults: list[Any] = []  # what it does instead of answering, one a request
        self.requests: list[dict[str, Any]] = []
        self.sandbox = SubprocessSandbox()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        limits = SandboxLimits(wall_s=request["run_timeout"], memory_mb=request["memory_limit_MB"])
        result = self.sandbox.run(request["code"], stdin=request["stdin"], limits=limits)
        code = {ExecStatus.OK: 0, ExecStatus.KILLED: -9}.get(result.status, 1)
        status = _WIRE_STATUS.get(result.status, "Finished")
        run = {"status": status, "execution_time": result.wall_s, "return_code": code}
        run |= {"stdout": result.stdout, "stderr": result.stderr}
        return {"status": "Failed" if code else "Success", "message": "", "run_result": run}


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **request})
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault == "close":
            self.close_connection = True
            return
        status = fault if isinstance(fault, int) else 200
        body = (
            fault if isinstance(fault, bytes) else json.dumps(self.server.answer(request)).encode()
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def sandbox(service: Service) -> Iterator[HTTPSandbox]:
    with closing(HTTPSandbox(service.url, queue_s=5)) as made:
        yield made


def test_a_program_runs_at_the_service_with_its_input(
    sandbox: HTTPSandbox, service: Service
) -> None:
    result = sandbox.run("print(input()[::-1])", stdin="ab日", limits=SandboxLimits(wall_s=7))
    assert (result.status, result.stdout) == (ExecStatus.OK, "日ba\n")
    [request] = service.requests
    assert (request["path"], request["language"]) == ("/run_code", "python")
    assert (request["run_timeout"], request["memory_limit_MB"]) == (7, 1024)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("1/0", ExecStatus.ERROR),
        ("while True: pass", ExecStatus.TIMEOUT),
        ("import os; os.kill(os.getpid(), 9)", ExecStatus.KILLED),
        ("raise MemoryError('no more')", ExecStatus.OOM),
    ],
)
def test_each_end_of_a_program_has_its_status(
    sandbox: HTTPSandbox, code: str, status: ExecStatus
) -> None:
    assert sandbox.run(code, limits=SandboxLimits(wall_s=0.5)).status is status


def test_too_much_output_is_cut_and_named(sandbox: HTTPSandbox) -> None:
    result = sandbox.run("print('é' * 100)", limits=SandboxLimits(max_output_bytes=11))
    assert (result.status, result.stdout) == (ExecStatus.OUTPUT_LIMIT, "é" * 5)
    assert result.is_truncated


@pytest.mark.parametrize(
    "fault", [503, "close", b"<html>", b"[]", b'{"status": "SandboxError", "run_result": null}']
)
def test_a_service_that_fails_once_is_asked_again(
    sandbox: HTTPSandbox, service: Service, fault: Any
) -> None:
    service.faults = [fault]
    assert sandbox.run("print(1)").stdout == "1\n"
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("fault", "num_requests"),
    [
        (500, 3),
        (404, 1),
        ("close", 3),
        (b"{}", 3),
        (b'{"status": "SandboxError", "message": "no disk", "run_result": null}', 3),
    ],
)
def test_a_service_that_keeps_failing_is_a_sandbox_error_within_its_tries(
    sandbox: HTTPSandbox, service: Service, fault: Any, num_requests: int
) -> None:
    service.faults = [fault] * 50
    result = sandbox.run("print(1)")
    assert result.status is ExecStatus.SANDBOX_ERROR
    assert service.url in result.stderr
    assert len(service.requests) == num_requests


def test_nobody_there_and_a_closed_sandbox_are_sandbox_errors(service: Service) -> None:
    sandbox = HTTPSandbox("http://127.0.0.1:9", max_tries=2)
    assert sandbox.run("print(1)").status is ExecStatus.SANDBOX_ERROR
    sandbox.close()
    assert "closed" in sandbox.run("print(1)").stderr


def test_a_pickled_copy_asks_the_same_service(sandbox: HTTPSandbox) -> None:
    copy = pickle.loads(pickle.dumps(sandbox))
    with closing(copy):
        assert copy.run("print(2)").stdout == "2\n"


def test_the_tier_is_what_the_operator_vouches_for(service: Service) -> None:
    assert HTTPSandbox(service.url).tier == "T0"
    vouched = HTTPSandbox(f"{service.url}/run_code", vouched_tier="T2")
    assert vouched.tier == "T2"
    assert "not probed" in vouched.report()["tier"]


@pytest.mark.parametrize(
    ("url", "settings", "problem"),
    [
        ("localhost:8080", {}, "no address"),
        ("http://x", {"max_tries": 0}, "max_tries is 0"),
        ("http://x", {"vouched_tier": "T9"}, "use one of T0"),
    ],
)
def test_bad_settings_are_refused(url: str, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        HTTPSandbox(url, **settings)
