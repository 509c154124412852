"""Who plays in `maskgym eval`: a model of a folder or of the hub, or a server with one."""

from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.evaluation.records import read_records
from maskgym.retrieval import BM25Index, Passage

from .eval_service import chat, maskgym, passages, questions, serving, stop_after, table


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_model_behind_an_endpoint_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    questions(tmp_path / "rays.jsonl", 6)
    monkeypatch.setenv("TOY_KEY", "secret-of-the-toy")

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        if len(body["messages"]) == 1:
            return chat("<search> ray </search>")
        return chat("<answer> Bécquerel </answer>")

    with serving(passages) as index, serving(answer) as server:
        words = (
            f"--tasks rays.jsonl --index {index.url} --endpoint {server.url}/v1 --concurrency 3 "
            "--api-key-env TOY_KEY --set endpoint.timeout_s=30 --out run"
        )
        assert maskgym(words) == 0
    assert server.keys == {"Bearer secret-of-the-toy"}
    found = table(tmp_path / "run")["benchmarks"]["rays"]
    assert found["estimates"]["exact_match"]["mean"] == 1.0
    assert found["estimates"]["exact_match_search_r1"]["mean"] == 0.0
    assert [d["answer"] for d in found["disagreements"]] == ["Bécquerel"] * 6
    assert found["estimates"]["tokens"]["mean"] == 10.0
    assert found["estimates"]["turns"]["mean"] == 2.0
    assert "EM strict and EM search-r1 disagree on 6 questions" in capsys.readouterr().out
    for path in (tmp_path / "run").iterdir():
        assert "secret-of-the-toy" not in path.read_text()


def test_an_endpoint_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions(tmp_path / "rays.jsonl", 2)
    with serving(chat) as server:  # type: ignore[arg-type]
        url = f"{server.url}/v1"
    BM25Index.build([Passage(id="p", text="Becquerel")]).save("index")
    words = f"--tasks rays.jsonl --index index --endpoint {url} --set endpoint.timeout_s=0.5"
    assert maskgym(words, "--out", "run") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    # With a model's name nobody is asked for one, and it is found out while playing.
    assert maskgym(words, "--out", "run", "--model", "toy") == 2
    assert "the same command goes on" in capsys.readouterr().err
    assert read_records(tmp_path / "run") == []
    with serving(lambda body: chat("<answer> Becquerel </answer>")) as server:
        moved = words.replace(url, f"{server.url}/v1")
        assert maskgym(moved, "--out", "run", "--model", "toy") == 2
        assert "endpoint.base_url" in capsys.readouterr().err


def test_a_model_folder_is_evaluated_and_goes_on_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskgym.agents.tiny_model import TinyModelConfig, make_tiny_model

    questions(tmp_path / "rays.jsonl", 4)
    config = TinyModelConfig(
        hidden_size=32,
        num_layers=1,
        intermediate_size=32,
        num_heads=2,
        num_kv_heads=1,
        vocab_size=400,
        max_position_embeddings=1024,
    )
    make_tiny_model(tmp_path / "tiny", ["Who found the ray ? <answer> Becquerel"], config=config)
    with serving(passages) as service:
        words = (
            f"--tasks rays.jsonl --index {service.url} --model tiny --engine transformers "
            "--max-tokens 4 --max-model-len 1000 --set episode.max_turns=2 "
            "--set rollout.max_episodes=2 --set rollout.num_env_workers=0 --out"
        )
        assert maskgym(words, "whole") == 0
        with monkeypatch.context() as patch:
            stop_after(1, patch, tmp_path / "broken")
            assert maskgym(words, "broken") == 130
        assert 1 <= len(read_records(tmp_path / "broken")) < 4
        assert maskgym(words, "broken") == 0
    assert table(tmp_path / "broken") == table(tmp_path / "whole")
    found = table(tmp_path / "whole")["benchmarks"]["rays"]
    assert found["estimates"]["tokens"]["mean"] > 0


def test_a_server_that_is_lost_half_way_costs_only_what_was_in_flight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions(tmp_path / "rays.jsonl", 9)
    num_asked, is_down = 0, True

    def dying(body: dict[str, Any]) -> dict[str, Any]:
        nonlocal num_asked
        num_asked += 1
        if is_down and num_asked > 4:
            return {"error": "out of memory"}  # no completion, whatever the status says
        return chat("<answer> Becquerel </answer>")

    with serving(passages) as index, serving(dying) as server:
        words = (
            f"--tasks rays.jsonl --index {index.url} --endpoint {server.url}/v1 --concurrency 1 "
            "--set endpoint.max_retries=0 --set endpoint.max_failures=2 --out run"
        )
        assert maskgym(words) == 2
        assert "the same command goes on" in capsys.readouterr().err
        reasons = [record.trajectory.end_reason for record in read_records(tmp_path / "run")]
        assert reasons == ["answered"] * 4
        is_down = False
        assert maskgym(words) == 0
    found = table(tmp_path / "run")["benchmarks"]["rays"]
    assert (found["num_questions"], found["num_failed"]) == (9, 0)
    assert found["estimates"]["accuracy"]["mean"] == 1.0


def test_a_model_of_the_hub_is_taken_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskgym.scripts.eval_config import resolve_model

    pytest.importorskip("huggingface_hub")
    snapshot = tmp_path / "models--owner--tiny/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--owner--tiny/refs").mkdir()
    (tmp_path / "models--owner--tiny/refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve_model("owner/tiny") == str(snapshot)
    with pytest.raises(FileNotFoundError, match="hf download owner/other --local-dir FOLDER"):
        resolve_model("owner/other")
    with pytest.raises(FileNotFoundError, match="holds no model"):
        resolve_model(str(snapshot.parent))
