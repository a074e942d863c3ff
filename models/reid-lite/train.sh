#!/bin/sh
# Trains reid-lite anew: sh models/reid-lite/train.sh CROPS WORK    (about two hours on two cores)
# CROPS is Market-1501 as `stride32 train embedder` takes it. docs/appearance.md says why it is done in rounds.
set -eu
crops=$1 work=$2

train() { # NAME SETTING...
    name=$1
    shift
    stride32 train embedder --data "$crops" --out "$work/$name" --name reid-lite --device cpu "$@"
}

# Teachers: the same training at its full length, shorter, with more augmentation, and without triplets.
train full
train short --epochs 9 --set eval_every=3 --set export_checkpoint=last
train augmented --epochs 15 --set eval_every=5 --set export_checkpoint=last --set weight_decay=0.05 \
    --set box_jitter=0.1 --set low_resolution=0.2 --set grey=0.05 --set colour=1.2 --set 'erase_area=[0.02,0.4]'
train classified --epochs 9 --set eval_every=3 --set export_checkpoint=last --set triplet_weight=0
full=$work/full/reid-lite short=$work/short/reid-lite
augmented=$work/augmented/reid-lite classified=$work/classified/reid-lite

# Students start from the mean of two teachers and learn how alike the teachers together find the crops.
stride32 models average "$full" "$short" --out "$work" --name start
student() { # NAME START TEACHERS SETTING...
    name=$1 start=$2 teachers=$3
    shift 3
    train "$name" --init "$start" --set "teachers=[$teachers]" --set export_checkpoint=last "$@"
}
list() { # quoted and joined by commas
    printf '"%s"' "$1"
    shift
    for model in "$@"; do printf ',"%s"' "$model"; done
}
one=$work/student1/reid-lite two=$work/student2/reid-lite three=$work/student3/reid-lite
student student1 "$work/start" "$(list "$full" "$short" "$augmented" "$classified")" \
    --epochs 8 --lr 0.0007 --set eval_every=1
student student2 "$work/start" "$(list "$full" "$short" "$augmented" "$classified")" \
    --epochs 8 --lr 0.001 --set teacher_weight=4 --set eval_every=2 --seed 1
student student3 "$work/start" "$(list "$full" "$short" "$augmented" "$one")" \
    --epochs 8 --lr 0.0008 --set teacher_weight=2 --set eval_every=4 --seed 2

# A second round: students of the mean of the first, taught by two of them and two of their teachers.
stride32 models average "$one" "$two" "$three" --out "$work" --name start2
for seed in 3 4; do
    student "second$seed" "$work/start2" "$(list "$full" "$augmented" "$one" "$three")" \
        --epochs 7 --lr 0.0008 --set teacher_weight=2 --set eval_every=7 --seed "$seed"
done
stride32 models average "$work/second3/reid-lite" "$work/second4/reid-lite" --out "$work/mean" --name reid-lite \
    --data "$crops"
