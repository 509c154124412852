#!/usr/bin/env bash
# Sets maskgym up for development and runs its tests.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash scripts/test.sh [--all] [PYTEST ARGUMENTS...]

Runs the tests that need neither a GPU nor the internet and take seconds; --all adds the slow ones (minutes) and, where
there is an NVIDIA GPU, its tests. Other arguments go to pytest, paths as seen from the repository root:
  bash scripts/test.sh tests/envs -k search
TEXT
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$(realpath -m "${MASKGYM_VENV:-$root/.venv}")"
marks="not slow and not gpu and not network"
arguments=()
for argument in "$@"; do
    case "$argument" in
        --all)
            marks="not network"
            if ! nvidia-smi -L >/dev/null 2>&1; then marks+=" and not gpu"; fi
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) arguments+=("$argument") ;;
    esac
done

bash "$root/scripts/setup.sh" --extras dev,train,lora,peers,parquet,ner,fast,dense,serve,vllm
cd "$root"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # small tensors: a second thread mostly waits, spinning
exec "$venv/bin/pytest" -m "$marks" "${arguments[@]}"
