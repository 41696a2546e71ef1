#!/usr/bin/env bash
# All benchmarks of this folder, in sections that each take less than ten minutes on one GPU.
#
#   scripts/benchmarks/everything.sh [--small] SECTION...
#
#   check      what the machine has, and every benchmark at toy sizes (the flag for the others, too)
#   networks   train.py: steps, compiling, memory and utilisation of four networks
#   compare    compare.py: EfficientNet-B0 and ResNet-50 in turns with timm
#   compare2   compare.py: EfficientNetV2-S and ViT-S in turns with timm
#   data       pipeline.py, and loop.py with the host's pipeline and with the data on the device
#   end        end_to_end.py: 30 epochs from prepared data to report, then in turns with PyTorch; it
#              prints how many images (IMAGES as in the call below are 5,984)
#   end2       end_to_end.py: the same once on about 10,000 images, drawn whatever IMAGES is, which
#              alone takes minutes: the 30 epochs that are to take under 120 seconds
#   scaling    scaling.py: records to 400,000, sizes, classes, CPU devices, processes
#   host       prepare.py, load_weights.py, bootstrap.py, predict.py, layers.py: what needs no GPU
#
# The environment may name OUT (folder of the JSON and of everything.log; runs/benchmarks), WORK (a
# scratch folder; a new one that is removed), PYTHON (python3), PEER (the Python with torch and
# timm; PYTHON where that has them, else skinjax is measured alone), IMAGES (HAM10000 as published,
# else lesions are drawn) and LIMIT (seconds for all that was asked for; none). A benchmark that
# fails or runs out of time is said at the end, and the others go on; the exit status is 1 then.
#
# On a CPU, to try it:  scripts/benchmarks/everything.sh --small check
#
# On a machine with one H200 that has Python 3.12, JAX for CUDA, Flax, Optax, Orbax, torch, timm and
# OpenCV, and no network (this project's lent one), what is missing is carried as wheels. Once here,
# in the repository's root, into folders that git ignores by .git/info/exclude:
#
#   mkdir -p .git/info .whl .bench && printf '/.whl/\n/.bench/\n' >> .git/info/exclude
#   python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 \
#     --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
#     --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .whl \
#     array-record==0.8.6 dm-tree==0.1.10 docstring-parser==0.18.0 grain==0.2.18 \
#     googleapis-common-protos==1.75.0 immutabledict==4.3.1 ml-collections==1.1.0 \
#     portpicker==1.6.0 simple-parsing==0.1.9 tensorflow-datasets==4.9.10 \
#     tensorflow-metadata==1.21.0 termcolor==3.3.0 toml==0.10.2
#   python3 -m pip wheel --no-deps -w .whl promise==2.3
#   cp -r ../shared/data/ham10000 .bench/
#
# Then one call for each section, named in its place: of the tool `run`, with timeout_s=600 and
# carry=[".whl", ".bench"] (50 MB), the command
#
#   python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
#     --target /tmp/site .whl/*.whl && export PYTHONPATH=/tmp/site:$PWD || exit; \
#     LIMIT=570 IMAGES=$PWD/.bench/ham10000 scripts/benchmarks/everything.sh SECTION
#
# `check` comes first: it shows what fails there before time is spent. Nothing of this has been run
# on a GPU yet.
set -u

cd "$(dirname "$0")/../.."
here=scripts/benchmarks
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$here/everything.sh" | sed '/^set -u/,$d'; }

small=
sections=()
for argument in "$@"; do
  case "$argument" in
    --small) small=1 ;;
    -h | --help) usage; exit ;;
    check | networks | compare | compare2 | data | end | end2 | scaling | host)
      sections+=("$argument") ;;
    *) echo "$argument is no section; see --help" >&2; exit 2 ;;
  esac
done
[ ${#sections[@]} -gt 0 ] || { usage; exit 2; }

PYTHON=${PYTHON:-python3}
OUT=${OUT:-runs/benchmarks}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
if [ -z "${WORK:-}" ]; then
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
fi
if [ -z "${PEER+set}" ]; then
  PEER=
  "$PYTHON" -c 'import timm, torch' 2>/dev/null && PEER=$PYTHON
fi
# Its memory is shared with PyTorch, whose turn comes in the same minute.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.45}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
log=$OUT/everything.log
: > "$log"
failed=()

# measure NAME FLAGS...: runs NAME.py, keeps what it prints, and goes on where it fails. A name
# may end in -WHAT, for the second run of a benchmark.
measure() {
  local name=$1 script=${1%%-*} flags=("${@:2}") status left=0
  flags+=("--json=$OUT/$name.json")
  printf '\n## %s\n\npython %s/%s.py %s\n\n' "$name" "$here" "$script" "${flags[*]}" | tee -a "$log"
  # No seconds left is one, since 0 would be no limit.
  [ -z "${LIMIT:-}" ] || left=$((LIMIT > SECONDS ? LIMIT - SECONDS : 1))
  timeout "$left" "$PYTHON" "$here/$script.py" "${flags[@]}" 2>&1 | tee -a "$log"
  status=${PIPESTATUS[0]}
  [ "$status" = 0 ] || failed+=("$name ($status)")
}

machine() {
  nvidia-smi -L 2>/dev/null || echo "no NVIDIA GPU"
  "$PYTHON" -c 'import jax; print("jax", jax.__version__, jax.devices())'
  "$PYTHON" -c 'import sys; sys.path.insert(0, "scripts/benchmarks"); import record
print(record.machine()); print(record.versions())'
  echo "peer: ${PEER:-none}"
}

peer=()
[ -n "$PEER" ] && peer=("--peer=$PEER")
images=()
[ -n "${IMAGES:-}" ] && images=("--images=$IMAGES")
quick=(--batch=8 --rounds=1 --seconds=0.2)
toy=(--size=64 --batch=8 --lesions=60)

networks() {
  if [ -n "$small" ]; then
    measure train --models=resnet18 --size=64 "${quick[@]}"
  else
    measure train
  fi
}

compare() {
  if [ -n "$small" ]; then
    measure compare --models=resnet18 --kinds=train,infer --size=64 "${quick[@]}" "${peer[@]}"
  else
    measure compare --models=efficientnet_b0,resnet50 --kinds=train,infer "${peer[@]}"
  fi
}

compare2() {
  if [ -n "$small" ]; then
    measure compare-2 --models=simple_cnn --kinds=train --size=64 "${quick[@]}"
  else
    measure compare-2 --models=efficientnetv2_s,vit_small_patch16 --kinds=train,infer "${peer[@]}"
  fi
}

data() {
  if [ -n "$small" ]; then
    measure pipeline --work="$WORK/pipeline" --count=64 --size=64 --threads=2 --workers=1 \
      --peer_workers=0 "${quick[@]}" "${peer[@]}"
    measure loop --work="$WORK/loop" --models=simple_cnn "${toy[@]}" --rounds=1 --seconds=1
  else
    measure pipeline --work="$WORK/pipeline" --threads=1,4,16 --workers=8 --peer_workers=0,8,16 \
      --rounds=3 "${images[@]}" "${peer[@]}"
    measure loop --work="$WORK/loop" --models=resnet18,efficientnet_b0 --on_device=off,on \
      --threads=8 --rounds=3 --seconds=10 "${images[@]}"
  fi
}

end() {
  if [ -n "$small" ]; then
    measure end_to_end --work="$WORK/end" --model=resnet18 "${toy[@]}" --epochs=2 --rounds=1 \
      "${peer[@]}"
  else
    measure end_to_end --work="$WORK/end" --epochs=30 --rounds=1 --again=1 --threads=8 \
      "${images[@]}" "${peer[@]}"
  fi
}

end2() {
  if [ -n "$small" ]; then
    measure end_to_end-2 --work="$WORK/end2" --model=resnet18 "${toy[@]}" --epochs=1 --again=0
  else
    measure end_to_end-2 --work="$WORK/end2" --epochs=30 --again=0 --threads=8 --lesions=6300
  fi
}

scaling() {
  if [ -n "$small" ]; then
    measure scaling --work="$WORK/scaling" --records=200,400 --sizes=32,64 --size-records=200 \
      --classes=2,9 --class-records=200 --devices=1,2 --processes=1,2 --rounds=1 --steps=2 \
      --seconds=0.2 --resamples=10 --batch-size=16 --until=read
  else
    measure scaling --work="$WORK/scaling" --resamples=100 --seconds=3
  fi
}

host() {
  local count=2000 rounds=3
  [ -n "$small" ] && count=32 rounds=1
  [ -n "${IMAGES:-}" ] && measure prepare "${images[@]}" --work="$WORK/prepare" \
    --count="$count" --rounds="$rounds"
  measure load_weights --work="$WORK/weights" --rounds="$rounds"
  measure layers --rounds="$rounds"
  measure bootstrap --rounds="$rounds" --examples=$((count * 5)) --resamples="$count"
  [ -n "${IMAGES:-}" ] && measure predict "${images[@]}" --work="$WORK/predict" --model=resnet18 \
    --count="$count" --rounds="$rounds"
}

for section in "${sections[@]}"; do
  if [ "$section" = check ]; then
    machine 2>&1 | tee -a "$log"
    small=1
    for one in networks compare compare2 data end scaling host; do "$one"; done
  else
    "$section"
  fi
done

printf '\n# All tables\n'
grep -E '^(## |\|)' "$log" | sed 's/^## /\n## /'
printf '\nJSON: %s\n' "$OUT"
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
