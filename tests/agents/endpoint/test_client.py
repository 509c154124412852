"""One request at a time: what is sent, sent again, left out, and said about a failure."""

import time
from typing import Any

import pytest

from maskgym.agents.endpoint.client import (
    ContextOverflowError,
    Endpoint,
    EndpointConfig,
    EndpointError,
    RequestFailedError,
)
from maskgym.agents.engines.engine import SamplingParams

STOP = ("</echo>", "</answer>")


def ask(endpoint: Endpoint, **params: Any) -> str:
    settings = SamplingParams(**{"max_tokens": 32, "temperature": 0.0, "stop": STOP, **params})
    return endpoint.complete([{"role": "user", "content": "word0 ?"}], settings).text


@pytest.mark.parametrize(
    "refused", ["include_stop_str_in_output", "max_tokens", "stop", "seed", None]
)
def test_what_a_server_refuses_is_left_out_from_then_on(server: Any, refused: str | None) -> None:
    name = refused or "include_stop_str_in_output"

    def answer(body: dict[str, Any]) -> Any:
        if name in body:
            return server.refuses(
                400, f"Unsupported parameter: '{name}'." if refused else "Bad request."
            )
        return server.says("<echo> a </echo> and more" if name == "stop" else "<echo> a")

    server.answer = answer
    endpoint = server.endpoint()
    assert ask(endpoint, seed=1) == ask(endpoint, seed=1)
    assert len(server.requests) == 3
    assert endpoint.refused_fields == (name,)
    if name == "max_tokens":
        assert server.requests[-1]["max_completion_tokens"] == 32


def test_the_wait_that_a_server_names_is_kept(server: Any) -> None:
    server.reply_headers["Retry-After"] = "1"
    times_s: list[float] = []

    def answer(body: dict[str, Any]) -> Any:
        times_s.append(time.monotonic())
        return (
            server.refuses(429, "wait")
            if len(times_s) == 1
            else server.says("<answer> a </answer>")
        )

    server.answer = answer
    assert ask(server.endpoint()) == "<answer> a </answer>"
    assert times_s[1] - times_s[0] >= 1.0


def test_the_last_turn_fills_what_the_context_leaves(server: Any) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            return server.refuses(400, "This model's maximum context length is 40 tokens.")
        return server.says("<answer> word0", finish_reason="length")

    server.answer = answer
    assert ask(server.endpoint()) == "<answer> word0"
    server.answer = lambda body: server.refuses(400, "no", code="context_length_exceeded")
    with pytest.raises(ContextOverflowError, match="context_length_exceeded"):
        ask(server.endpoint())
    # Without a limit the older API stops after 16 tokens: there the limit is halved until it fits.
    server.requests.clear()
    with pytest.raises(ContextOverflowError):
        ask(server.endpoint(api="completions"))
    assert [body["max_tokens"] for body in server.requests] == [32, 16, 8, 4, 2, 1]


def test_a_model_is_named_where_the_server_has_several(server: Any) -> None:
    server.models = (200, {"data": [{"id": "tiny"}, {"id": "large"}]})
    with pytest.raises(EndpointError, match=r"serves tiny, large. Name one"):
        ask(server.endpoint())
    server.answer = lambda body: server.refuses(404, f"The model `{body['model']}` does not exist.")
    with pytest.raises(EndpointError, match="did you mean 'large'"):
        ask(server.endpoint(model="lage"))


def test_a_server_without_a_list_of_models_needs_a_name(server: Any) -> None:
    server.models = (404, b"not found")
    with pytest.raises(EndpointError, match="Name one model"):
        ask(server.endpoint())
    assert ask(server.endpoint(model="tiny")) == "<answer> x </answer>"


def test_the_key_comes_from_the_environment_and_shows_nowhere(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(server.endpoint())
    assert not any("Authorization" in headers for headers in server.headers)
    server.headers.clear()
    monkeypatch.setenv("MY_KEY", "sk-secret")
    endpoint = server.endpoint(api_key_env="MY_KEY", max_retries=0)
    ask(endpoint)
    assert {headers.get("Authorization") for headers in server.headers} == {"Bearer sk-secret"}
    server.answer = lambda body: server.refuses(500, "bad key sk-secret")
    with pytest.raises(RequestFailedError, match=r"bad key \*\*\*"):
        ask(endpoint)
    server.answer = lambda body: server.refuses(401, "Incorrect API key provided: sk-secret")
    with pytest.raises(EndpointError, match=r"provided: \*\*\*.*Check the key in \$MY_KEY"):
        ask(endpoint)
    assert "sk-secret" not in repr(vars(endpoint))
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(EndpointError, match="environment variable MY_KEY"):
        ask(endpoint)


def test_a_spent_quota_is_not_waited_for(server: Any) -> None:
    server.answer = lambda body: server.refuses(429, "no money", code="insufficient_quota")
    with pytest.raises(EndpointError, match="no money"):
        ask(server.endpoint())
    assert len(server.requests) == 1


def test_a_wrong_path_is_told_as_such(server: Any) -> None:
    server.answer = lambda body: (404, b"<html>no such page</html>")
    with pytest.raises(EndpointError, match="Check the address"):
        ask(server.endpoint())


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_an_address_may_be_given_with_and_without_its_path(server: Any, tail: str) -> None:
    paths: list[str] = []

    def answer(body: dict[str, Any]) -> Any:
        paths.append(body["path"])
        return server.says("hello")

    server.answer = answer
    ask(Endpoint(EndpointConfig(base_url=server.url + tail)))
    assert paths == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base_url": "localhost:8000"}, "no address of a server"),
        ({"base_url": "http://me:pass@host/v1"}, "holds a user"),
        ({"api_key_env": "sk-secret"}, r"no name of an environment variable\. (?!.*sk-secret)"),
        ({"api": "responses"}, "api is 'responses'"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"extra_body": {"temperature": 1}}, "extra_body sets temperature"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EndpointConfig(**{"base_url": "http://127.0.0.1:1", **values})


def test_a_failed_request_says_what_the_server_said_last(server: Any) -> None:
    server.answer = lambda body: server.refuses(502, "the upstream is gone")
    with pytest.raises(RequestFailedError, match=r"in 2 tries; the last: 502 .*upstream is gone"):
        ask(server.endpoint(max_retries=1))
