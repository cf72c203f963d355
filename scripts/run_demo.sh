#!/usr/bin/env bash
# usage: bash scripts/run_demo.sh [options of train.py]
#
# Shows all stages on the CPU, from nothing: sets up .venv, draws a synthetic COCO data set, trains a small config,
# evaluates it, exports it, draws what it predicts; where published weights are at hand, on a photograph too (one that
# matplotlib brings). All that it makes is in demo/ of the checkout (and .venv); another run replaces that folder, but no
# demo/ of your own. Fails unless the average precision shows that the network learned.
#
# example: bash scripts/run_demo.sh --train.epochs 30
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

minimum_ap=0.50
data_options=(--train 400 --val 50 --seed 0)
common_options=(--device CPU --model_config litehrnet_tiny_coco_128x96 --data_root demo/data --output_root demo
                --experiment_tag demo)
train_options=(--recipe short --train.epochs 20 --random_seed 1)

elapsed() {
    printf '%d:%02d min' $((SECONDS / 60)) $((SECONDS % 60))
}

stages=6
stage=0
begin_stage() {
    stage=$((stage + 1))
    printf '\n== %d/%d  %s  (%s since the start)\n' "$stage" "$stages" "$1" "$(elapsed)"
    printf '   output: %s\n' "$2"
}

# Shows the command, then runs it.
run() {
    echo "   \$ python $*"
    "$python" "$@"
}

evaluate() {
    run eval.py "${common_options[@]}" --boxes "$1" \
        --metrics_json "demo/metrics_$1.json" --results_json "demo/results_$1.json"
}

# Prints the scores; fails if the first is too low.
summarise() {
    "$python" - "$minimum_ap" demo/metrics_gt.json demo/metrics_det.json <<'PYTHON'
import json
import sys

ground_truth, detected = (json.load(open(path))['AP'] for path in sys.argv[2:])
print(f'AP with ground-truth boxes: {ground_truth:.3f} (at least {sys.argv[1]} expected)')
print(f'AP with detector boxes: {detected:.3f}')
sys.exit(not ground_truth >= float(sys.argv[1]))
PYTHON
}

offer_help "${1:-}"
cd -- "$root"
python=$root/.venv/bin/python
marker=demo/.made_by_run_demo
[[ ! -e demo || -e $marker ]] || fail "$root/demo: not made by this script; move or rename it"

begin_stage 'Set-up: virtual environment and packages (one to two minutes the first time)' .venv/
bash scripts/setup_env.sh
rm -rf demo
mkdir demo
touch "$marker"

begin_stage 'Synthetic data: jointed figures in COCO format' demo/data/
run tools/make_synthetic_coco.py --output demo/data "${data_options[@]}"

begin_stage 'Training: a small Lite-HRNet at 96 x 128 pixels on the CPU (the long stage)' demo/checkpoints/
run train.py "${common_options[@]}" "${train_options[@]}" "$@"

begin_stage 'Evaluation: ground-truth boxes, then detector boxes' 'demo/metrics_*.json, demo/results_*.json'
evaluate gt
evaluate det

begin_stage 'Export: MINDIR, reloaded and compared' demo/litehrnet.mindir
run export.py "${common_options[@]}" --output demo/litehrnet.mindir

begin_stage 'Images: predicted skeletons on validation images' 'demo/predictions.png, demo/predictions/'
run tools/draw_predictions.py --results demo/results_gt.json --images demo/data/val2017 \
    --annotations demo/data/annotations/person_keypoints_val2017.json --output demo/predictions.png
run tools/predict.py demo/data/val2017/00000010000?.jpg --checkpoint demo/litehrnet.mindir --output demo/predictions \
    --boxes demo/data/person_detection_results/COCO_val2017_detections_AP_H_56_person.json \
    --annotations demo/data/annotations/person_keypoints_val2017.json

photograph=$("$python" -c 'import matplotlib; print(matplotlib.get_data_path())')/sample_data/grace_hopper.jpg
if "$python" tools/weights.py path mmpose_litehrnet_18_coco_256x192 >/dev/null 2>&1 || [[ ${LITEHRNET_WEIGHTS_MIRROR:-} ]]; then
    run tools/predict.py "$photograph" --output demo/photographs
else
    printf '\nPhotographs of your own, with published weights: .venv/bin/python tools/predict.py photo.jpg\n'
fi

printf '\n== Done in %s. Look at demo/predictions.png; all files are in demo/.\n' "$(elapsed)"
summarise || fail "AP with ground-truth boxes is below $minimum_ap: the network did not learn; look at the loss above"
