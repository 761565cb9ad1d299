#!/bin/sh
# Every measurement of benchmarks/cifar10c.md and scenarios.md. Each goes on where it was stopped.
#
#   benchmarks/cifar10c.sh prepare|reset|start|scenarios|curve|devices|gate [JOBS]
#
# DRIFTWELL_DATA is the folder of the data sets, RESULTS (./results) the one for bundles and results.
# Results are of the code they were made with: take another folder after a change.
set -eu
what=${1:?prepare, reset, start, scenarios, curve, devices or gate}
jobs=${2:-1}
data=${DRIFTWELL_DATA:-../shared/data}
results=${RESULTS:-results}
seeds=${SEEDS:-1}
export OMP_NUM_THREADS=1 DRIFTWELL_ARITHMETIC=${DRIFTWELL_ARITHMETIC:-native}
edge=$results/bundles/edge foundation=$results/bundles/foundation hardened=$results/bundles/hardened
mkdir -p "$results"

streams() { for name in "$@"; do printf '%s ' "$data/cifar10c/$name.npz"; done; }
all=$(streams gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur \
    snow frost fog brightness contrast elastic_transform pixelate jpeg_compression)
four=$(streams gaussian_noise glass_blur contrast elastic_transform)

bench() { # NAME STREAMS OPTIONS...: appends to NAME.jsonl
    name=$1 on=$2
    shift 2
    # shellcheck disable=SC2086  # the streams are a list
    driftwell bench stream --edge "$edge" --foundation "$foundation" --transport virtual \
        --jobs "$jobs" --out "$results/$name.jsonl" "$@" --stream $on
}

case $what in
prepare)
    driftwell bundle create --model cifar-resnet20 --adaptable all --out "$edge" \
        --weights "$data/weights/cifar_resnet20.safetensors"
    driftwell bundle create --model cifar-resnet56 --out "$foundation" \
        --weights "$data/weights/cifar_resnet56_robust.safetensors"
    driftwell bundle harden --edge "$edge" --foundation "$foundation" --out "$hardened" \
        --anchors "$data/cifar10_train_jpeg.npz" --epochs 15 --bfloat16
    ;;
reset) bench reset "$all" --seeds "$seeds" --method none,bn,eta,own,cema,driftwell ;;
start)
    bench start "$all" --seeds "$seeds" --method driftwell --cloud-set "start=$hardened" \
        --cloud-set method.student.learning_rate=0.0002
    ;;
scenarios)
    methods=none,bn,eta,own,cema,driftwell
    for scenario in continual gradual mixed correlated recurring; do
        bench scenarios "$four" --images 1000 --method $methods --scenario $scenario
    done
    bench scenarios "$(streams clean)" --images 1000 --method $methods --scenario clean
    for batch in 1 8; do bench scenarios "$four" --images 1000 --method $methods --batch $batch; done
    for delay in 10 50; do bench scenarios "$four" --images 1000 --method $methods --delay $delay; done
    bench scenarios "$four" --images 1000 --method $methods --drop 0.3
    ;;
curve)
    for share in 0.01 0.03 0.1 0.3 1.0; do
        for selector in random entropy-band high-entropy margin; do
            bench "curve-$share-$selector" "$four" --images 1000 --method driftwell \
                --edge-set "budget.share=$share" --edge-set "selection.selector=$selector"
        done
    done
    ;;
devices)
    bench devices "$four" --method driftwell --devices 4 --pooling cohort
    bench devices "$four" --method cema --devices 4 --pooling alone
    ;;
gate)
    # shellcheck disable=SC2086
    python "$(dirname "$0")/gate.py" --edge "$edge" --foundation "$foundation" \
        --out "$results/gate.jsonl" --plot "$results/gate.png" --stream $four
    ;;
*)
    echo "$what is not known: prepare, reset, start, scenarios, curve, devices or gate" >&2
    exit 2
    ;;
esac
