#!/usr/bin/env bash
# Who may include what, and how a source file begins: check_includes.py, which first proves that it sees every breach.
set -euo pipefail
cd "$(dirname "$0")"
export PYTHONDONTWRITEBYTECODE=1
python3 check_includes.py --self-test
python3 check_includes.py
