"""A real vLLM server on the loopback: its episodes are those of an engine on the same model."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from maskgym.agents.endpoint.client import ContextOverflowError
from maskgym.agents.endpoint.player import Endpoint, EndpointConfig, EndpointError, play_endpoint
from maskgym.agents.engines.engine import SamplingParams
from maskgym.agents.engines.transformers_engine import TransformersEngine
from maskgym.agents.guidance.config import Slot
from maskgym.agents.guidance.supervised import Lesson, expert_trajectories
from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.rollouts.chat import Chat, load_tokenizer
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import RolloutConfig, rollout
from maskgym.agents.rollouts.trajectory import Trajectory
from maskgym.agents.tiny_model import save_model
from maskgym.envs import EpisodeConfig, SearchEnv, Task
from maskgym.masking import ExpertTrace, TraceTurn, TurnKind
from maskgym.retrieval import BM25Index, Passage

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(600)]

MAX_MODEL_LEN = 400
START_S = 240.0
TASKS = [
    Task(
        task_id=f"t{i}",
        question=f"Who wrote word{i} ?",
        answers=(f"word{i + 20}",),
        expert_trace=ExpertTrace(
            turns=(
                TraceTurn(kind=TurnKind.TOOL_CALL, tool="search", text=f"author of word{i}"),
                TraceTurn(kind=TurnKind.ANSWER, text=f"word{i + 20}"),
            )
        ),
    )
    for i in range(12)
]
PASSAGES = [Passage(id=f"p{i}", text=f"the author of word{i} is word{i + 20} .") for i in range(12)]
CONFIG = RolloutConfig(
    max_tokens_per_turn=24, temperature=0.0, stop=("</search>", "</answer>"), deadline_s=120.0
)


def pool() -> EnvPool:
    index = BM25Index.build(PASSAGES)
    episode = EpisodeConfig(instructions="search or answer .", max_turns=3)
    return EnvPool(lambda: SearchEnv(retriever=index, tasks=TASKS, config=episode))


@pytest.fixture(scope="module")
def model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt by heart how to search and answer, so that its episodes have turns."""
    folder = tmp_path_factory.mktemp("endpoint") / "model"
    shutil.copytree(tiny_model_dir, folder)
    model = load_model(folder, device="cpu")
    with closing(pool()) as envs:
        env = envs.acquire()
        assert isinstance(env, SearchEnv)
        lessons = [Lesson(task=task) for task in TASKS]
        chat = Chat(load_tokenizer(folder))
        played = list(expert_trajectories(env, chat, lessons, max_tokens=MAX_MODEL_LEN))
    learner = Learner(model, LearnerConfig(lr=3e-3, warmup_steps=10, micro_batch_tokens=4096))
    sequences = [trajectory.sequence() for trajectory in played]
    for _ in range(60):
        stats = learner.supervised_step(sequences)
    assert stats.loss < 0.3
    save_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def url(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vLLM server with the model, under the name "tiny"; what it printed is shown if it fails."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model_dir), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--enforce-eager", "--generation-config", "vllm"),
        *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "32", "--block-size", "32"),
        *("--kv-cache-memory-bytes", str(128 << 20), "--gpu-memory-utilization", "0.1"),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",  # or the first request compiles C++ for a quarter of a minute
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            if not answers(f"{address}/health", process):
                pytest.fail(f"The server did not start:\n{log.read_text()[-5000:]}")
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)


def answers(address: str, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return False


@pytest.fixture
def endpoint(url: str) -> Iterator[Endpoint]:
    with closing(Endpoint(EndpointConfig(base_url=url, timeout_s=60.0))) as endpoint:
        yield endpoint


def texts(trajectory: Trajectory) -> list[tuple[str, str, str, str]]:
    return [(t.action_text, t.action, t.observation, t.finish_reason) for t in trajectory.turns]


def ask(endpoint: Endpoint, text: str, **params: Any) -> str:
    settings = SamplingParams(**{"max_tokens": 24, "temperature": 0.0, **params})
    return endpoint.complete([{"role": "user", "content": text}], settings).text


def test_greedy_episodes_are_those_of_an_engine_on_the_same_model(
    endpoint: Endpoint, model_dir: Path
) -> None:
    with closing(pool()) as envs:
        played = play_endpoint(endpoint, envs, TASKS, CONFIG)
        engine, chat = TransformersEngine(model_dir), Chat(load_tokenizer(model_dir))
        slots = [Slot(task=task, index=0) for task in TASKS]
        wanted = rollout(engine, chat, envs, slots, CONFIG)
    assert endpoint.refused_fields == ()
    for ours, theirs in zip(played, wanted, strict=True):
        assert texts(ours) == texts(theirs)
        assert [t.num_tokens for t in ours.turns] == [len(t.action_ids) for t in theirs.turns]
        same = ("task_id", "group", "reward", "verdict", "end_reason", "answer", "passage_ids")
        assert [getattr(ours, k) for k in same] == [getattr(theirs, k) for k in same]
    assert sum(len(trajectory.turns) > 1 for trajectory in played) >= 8
    assert sum(trajectory.is_correct for trajectory in played) >= 8


def test_the_stop_string_is_in_the_text_also_where_the_server_leaves_it_out(
    endpoint: Endpoint,
) -> None:
    question = "search or answer .\n\nWho wrote word1 ?"
    kept = ask(endpoint, question, stop=CONFIG.stop)
    assert kept.endswith("</search>")
    endpoint._refused = frozenset({"include_stop_str_in_output"})
    assert ask(endpoint, question, stop=CONFIG.stop) == kept


def test_a_sample_repeats_under_its_seed(endpoint: Endpoint) -> None:
    question = "search or answer .\n\nWho wrote word1 ?"
    first, again, other = (
        ask(endpoint, question, temperature=2.0, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_the_last_turn_fills_the_context_and_a_longer_conversation_is_refused(
    url: str, api: Any
) -> None:
    with closing(Endpoint(EndpointConfig(base_url=url, api=api))) as endpoint:
        settings = SamplingParams(max_tokens=MAX_MODEL_LEN, temperature=0.0)
        message = {"role": "user", "content": "word1 " * (MAX_MODEL_LEN - 60)}
        completion = endpoint.complete([message], settings)
        assert completion.num_tokens is not None
        assert 1 <= completion.num_tokens < 60
        message = {"role": "user", "content": "word1 " * MAX_MODEL_LEN}
        with pytest.raises(ContextOverflowError, match="maximum context length"):
            endpoint.complete([message], settings)


def test_a_model_that_is_not_served_is_told_with_the_one_that_is(url: str) -> None:
    with (
        closing(Endpoint(EndpointConfig(base_url=url, model="tony"))) as endpoint,
        pytest.raises(EndpointError, match="did you mean 'tiny'"),
    ):
        ask(endpoint, "word1")
