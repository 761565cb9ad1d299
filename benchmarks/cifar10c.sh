#!/bin/sh
# Every measurement of benchmarks/cifar10c.md, scenarios.md, ablation.md and gate.md. Each goes on where it was stopped.
#
#   benchmarks/cifar10c.sh prepare|reset|start|scenarios|alone|recurring|curve|devices|gate|ablation [JOBS]
#
# DRIFTWELL_DATA is the folder of the data sets, RESULTS (./results) the one for bundles and results.
# SEEDS (1) is for reset and start. On a processor without AMX, BFLOAT16=false is faster.
# Results are of the code they were made with: take another folder after a change.
set -eu
what=${1:?prepare, reset, start, scenarios, alone, recurring, curve, devices, gate or ablation}
jobs=${2:-1}
data=${DRIFTWELL_DATA:-../shared/data}
results=${RESULTS:-results}
seeds=${SEEDS:-1}
bfloat16=${BFLOAT16:-true}
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
        --jobs "$jobs" --out "$results/$name.jsonl" \
        --cloud-set "driftwell:method.student.bfloat16=$bfloat16" \
        --cloud-set "driftwell:method.teacher.bfloat16=$bfloat16" "$@" --stream $on
}
started() { # NAME STREAMS OPTIONS...: the same, where our own method has a hardened start
    bench "$@" --cloud-set "driftwell:start=$hardened" \
        --cloud-set driftwell:method.student.learning_rate=0.0002
}

case $what in
prepare)
    driftwell bundle create --model cifar-resnet20 --adaptable all --out "$edge" \
        --weights "$data/weights/cifar_resnet20.safetensors"
    driftwell bundle create --model cifar-resnet56 --out "$foundation" \
        --weights "$data/weights/cifar_resnet56_robust.safetensors"
    driftwell bundle harden --edge "$edge" --foundation "$foundation" --out "$hardened" \
        --anchors "$data/cifar10_train_jpeg.npz" --epochs 30 --bfloat16
    ;;
reset) bench reset "$all" --seeds "$seeds" --method none,bn,eta,own,cema,driftwell ;;
start) started start "$all" --seeds "$seeds" --method none,bn,eta,own,cema,driftwell ;;
scenarios)
    cells() { # METHODS OPTIONS...: every scenario, the most telling cells first
        methods=$1
        shift
        for scenario in recurring continual correlated mixed gradual; do
            started scenarios "$four" --images 1000 --method "$methods" --scenario $scenario "$@"
        done
        started scenarios "$(streams clean)" --images 1000 --method "$methods" --scenario clean "$@"
    }
    every=none,bn,eta,own,cema,driftwell
    cells $every --batch 64
    cells $every --batch 8
    cells $every --batch 1
    cells cema,driftwell --batch 64 --delay 50 --drop 0.3
    cells cema,driftwell --batch 64 --drop 0.3
    cells cema,driftwell --batch 64 --delay 10
    cells cema,driftwell --batch 64 --delay 50
    cells cema,driftwell --batch 64 --delay 10 --drop 0.3
    ;;
alone) # nothing comes from the cloud, so that it needs neither `harden` nor a step of learning
    for batch in 64 8 1; do
        for scenario in recurring continual correlated mixed gradual; do
            bench alone "$four" --images 1000 --method driftwell --scenario $scenario --batch $batch --drop 1
        done
        bench alone "$(streams clean)" --images 1000 --method driftwell --scenario clean --batch $batch --drop 1
    done
    ;;
recurring) # visits of whole batches; `none` and `bn` show which images are hard
    started recurring "$four" --images 1024 --scenario recurring --seeds 3 --method none,bn,own,driftwell
    ;;
curve)
    for share in 1.0 0.3 0.1 0.03 0.01; do
        for selector in random entropy-band margin; do
            bench "curve-$share-$selector" "$four" --images 1000 --method driftwell \
                --edge-set "budget.share=$share" --edge-set "selection.selector=$selector"
        done
    done
    bench curve-own "$four" --images 1000 --method own
    ;;
devices)
    # Versions of 60 kB, so that a device takes no more bytes than one with cema.
    started devices "$four" --method driftwell --devices 4 --pooling cohort \
        --cloud-set driftwell:method.versions.limit_bytes=60000
    bench devices "$four" --method cema --devices 4 --pooling alone
    ;;
ablation)
    off() { # NAME OPTIONS...: one part switched off
        name=$1
        shift
        bench "ablation-$name" "$four" --images 1000 --method driftwell "$@"
    }
    off none
    off statistics --edge-set statistics=delivered
    off mirrors-of-the-teacher --cloud-set method.teacher.mirrors=false
    off views --cloud-set method.student.mirrors=false --cloud-set method.student.shift=0
    off average --cloud-set method.student.average=0
    off all-weights --cloud-set method.student.moves=normalisation
    off replay --cloud-set method.replay.capacity=128
    off delta-limit --cloud-set method.versions.limit_bytes=1200000 \
        --cloud-set message_limit_bytes=2000000 --edge-set message_limit_bytes=2000000
    off gate --cloud-set method.gate.tolerance=1000 --cloud-set method.gate.diversity=0
    off jpeg --edge-set upload.quality=95
    for scenario in recurring continual; do
        started ablation-domains "$four" --images 1000 --method driftwell --scenario $scenario \
            --edge-set drift.statistics_ceiling=1000 --edge-set drift.statistics_floor=1000 \
            --edge-set drift.output_ceiling_nats=1000 --edge-set drift.output_floor_nats=1000
    done
    for runs in true false; do
        started ablation-design-effect "$four" --images 1000 --method driftwell --scenario correlated \
            --edge-set own_statistics.design_effect=$runs
    done
    started ablation-start "$four" --images 1000 --method driftwell
    started ablation-start-alone "$four" --images 1000 --method driftwell \
        --cloud-set driftwell:method.gate.tolerance=-1000
    ;;
gate)
    # shellcheck disable=SC2046,SC2086
    python "$(dirname "$0")/gate.py" --edge "$edge" --foundation "$foundation" --seeds 6 \
        $([ "$bfloat16" = false ] || echo --bfloat16) --out "$results/gate.jsonl" --plot "$results/gate.png" --stream $four
    ;;
*)
    echo "$what is not known: prepare, reset, start, scenarios, alone, recurring, curve, devices, gate or ablation" >&2
    exit 2
    ;;
esac
