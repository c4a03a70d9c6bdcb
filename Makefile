# Each target is a line of shell that can be pasted; the paths are relative to the checkout. `make` alone lists them.
# What a target runs comes from .venv, which `make setup` makes.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.PHONY: help setup demo demo-all test test-slow lint lock containers cluster-test bench bench-gpu gpu-test picture
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: ## .venv with exactly what requirements.lock names; quick when nothing changed
	@tools/setup

demo: setup ## train, evaluate and draw the demo in about six minutes, and print its result table
	snakemake --profile workflow/profiles/local all && mtrepro show results/demo/study-demo

demo-all: setup ## every method once, tiny: proves the path of each within ten minutes, not how good it is
	snakemake --profile workflow/profiles/local all --configfile config/demo-all.yaml && mtrepro show results/demo/study-demo-all
	snakemake --profile workflow/profiles/local all --configfile config/demo-pixels.yaml && mtrepro show results/demo/study-demo-pixels
	snakemake --profile workflow/profiles/local all --configfile config/demo-meta.yaml && mtrepro show results/demo/study-demo-meta
	snakemake --profile workflow/profiles/local all --configfile config/demo-pixel-tasks.yaml && mtrepro show results/demo/study-demo-pixel-tasks
	snakemake --profile workflow/profiles/local all --configfile config/demo-transfer.yaml && mtrepro show results/demo/study-demo-transfer

test: setup ## the tests, under ten minutes on two cores
	pytest -n 2 --dist loadgroup -m "not slow"

test-slow: setup ## the others: several seeds, learners and sources in every combination, kills on every pixel benchmark
	pytest -n 2 --dist loadgroup -m slow

lint: setup ## style, types, workflow, and whether everything generated is current
	tools/lint

lock: setup ## rewrite requirements.lock and the images' locks: versions and hashes, no addresses
	tools/lock

containers: setup ## build both Apptainer images; BASE=local where no image registry is reachable
	python tools/build_images.py --base $(or $(BASE),registry)

cluster-test: setup ## real Slurm, real Apptainer, disturbed runs; needs root on Debian
	MTREPRO_CLUSTER_TESTS=$(or $(MTREPRO_CLUSTER_TESTS),1) MTREPRO_MOMENTS=$(or $(MTREPRO_MOMENTS),10) pytest tests/cluster -p no:cacheprovider -rs --durations=0

bench: setup ## print how fast it is here, beside stock Gymnasium
	python -m tests.bench

bench-gpu: setup ## the same on a GPU: updates/s eager and recorded, vector steps/s, a whole CARE run
	python -m tests.bench.gpu

gpu-test: setup ## recorded updates beside eager ones on a GPU, every method
	MTREPRO_GPU_TESTS=1 pytest tests/gpu -rs

picture: setup ## redraw the pipeline's picture in README.md and docs/workflow.md
	tools/picture --write
