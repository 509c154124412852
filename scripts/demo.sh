#!/usr/bin/env bash
# The main job, from nothing: sets maskgym up, then masks, warms up, trains, evaluates, and says where the report is.
# Arguments go to `maskgym demo` (`bash scripts/demo.sh --help` lists them).
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup.sh" --extras train,vllm
exec "${MASKGYM_VENV:-$root/.venv}/bin/python" -P -m maskgym demo "$@"
