#!/bin/sh
# Every measurement of benchmarks/elastic.md. Each goes on where it was stopped.
#
#   benchmarks/elastic.sh digits|cifar|prior|ablation|plot
#
# DRIFTWELL_DATA is the folder of the data sets, RESULTS (./results) the one for results.
# Results are of the code they were made with: take another folder after a change.
set -eu
what=${1:?digits, cifar, prior, ablation or plot}
here=$(dirname "$0")
data=cifar10-jpeg:${DRIFTWELL_DATA:-../shared/data}/cifar10_train_jpeg.npz
results=${RESULTS:-results}
export OMP_NUM_THREADS=1
mkdir -p "$results"

cifar() { # METHODS: appends to elastic-cifar.jsonl
    driftwell bench elastic --data "$data" --limit 6000 --devices 10 --steps 3 --skew 2,5 --seeds 3 \
        --method "$1" --out "$results/elastic-cifar.jsonl"
}

case $what in
digits)
    driftwell bench elastic --data digits --devices 10 --skew 2,5 --method none,local,fedavg,driftwell \
        --out "$results/elastic-digits.jsonl"
    ;;
cifar) cifar none,local,fedavg,heterofl,driftwell ;;
prior) cifar none+prior,local+prior,fedavg+prior ;;
ablation)
    python "$here/elastic.py" ablation --data "$data" --limit 6000 --out "$results/elastic-ablation.jsonl"
    ;;
plot) python "$here/elastic.py" plot --out "$here/elastic.png" "$results/elastic-cifar.jsonl" ;;
*)
    echo "$what is not known: digits, cifar, prior, ablation or plot" >&2
    exit 2
    ;;
esac
