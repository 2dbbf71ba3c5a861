#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (600), starting from tests/fuzz/<name>/. New inputs are kept
# in build/fuzz/corpus, crashing ones in build/fuzz/crashes: add those to tests/fuzz/<name>/ together
# with the repair, `make test` then replays them. FUZZ_ONLY names a single target.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
for target in $(find build/fuzz/src -maxdepth 2 -type f -name '*_fuzz' -perm -u+x | sort); do
  name=$(basename "$target" _fuzz)
  if [ -n "${FUZZ_ONLY:-}" ] && [ "$name" != "$FUZZ_ONLY" ]; then continue; fi
  mkdir -p "build/fuzz/corpus/$name" build/fuzz/crashes "tests/fuzz/$name"
  echo "fuzz: $name for ${FUZZ_SECONDS:-600} s"
  if ! "$target" -max_total_time="${FUZZ_SECONDS:-600}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/crashes/$name-" "build/fuzz/corpus/$name" "tests/fuzz/$name" \
    > "build/fuzz/$name.log" 2>&1; then
    failed=1
    echo "fuzz: $name FAILED"
    tail -60 "build/fuzz/$name.log"
  else
    grep -E "stat::number_of_executed_units|stat::new_units_added" "build/fuzz/$name.log"
  fi
done
exit $failed
