# Everything a fresh machine needs: python3 (3.11 or newer) with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check
IMAGES ?=

.PHONY: setup demo bench docs fuzz torture test test-portable lint model clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.ready-to-test: $(VENV)/.ready
	$(PIP) -e '.[test,lint,train,docs]'
	touch $@

# Ranks sample products that zeroflaw renders itself, or the photos in IMAGES=folder; pictures go to demo/results.
ifeq ($(IMAGES),)
demo: $(VENV)/.ready
	$(BIN)/zeroflaw samples demo/samples --overwrite
	$(BIN)/zeroflaw detect 'demo/samples/*/test' -o demo/results --overwrite
	$(BIN)/zeroflaw evaluate demo/samples
	@echo "Look at demo/results/report.html. The samples are rendered; try photos with: make demo IMAGES=folder, or"
	@echo "$(BIN)/zeroflaw detect PHOTOS --good GOOD-PHOTOS -o results"
else
demo: $(VENV)/.ready
	$(BIN)/zeroflaw detect '$(IMAGES)' -o demo/results --overwrite || [ $$? -eq 3 ]  # 3: some could not be read
	@echo "Look at demo/results/report.html. Good photos give verdicts: $(BIN)/zeroflaw detect PHOTOS --good GOOD-PHOTOS -o results"
endif

test: lint
	$(BIN)/python -m pytest -n 2

# The tests as on other processors: fewer vector instructions, one thread, weights at odd addresses.
PORTABLE = $(BIN)/python -m pytest -n 2 -q -p no:cacheprovider
test-portable: $(VENV)/.ready-to-test
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PORTABLE)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 $(PORTABLE)
	ZEROFLAW_TEST_ODD=1 $(PORTABLE)

# Ratios of speed, side by side, written into docs/performance.md. EARLIER=folder compares the command with that
# checkout, too; SIDE=python compares with open_clip and anomalib, where that Python has them; QUICK=1 leaves out the
# ten thousand photos.
bench: $(VENV)/.ready-to-test
	$(BIN)/python benchmarks/bench.py $(if $(EARLIER),--earlier $(EARLIER)) $(if $(SIDE),--side $(SIDE)) $(if $(QUICK),--quick)

# The site of docs/ in build/site, links checked; any web server can serve the folder.
docs: $(VENV)/.ready-to-test
	$(BIN)/python docs/make_site.py

# Ten minutes of changed inputs at every door: an hour and a half.
fuzz: $(VENV)/.ready-to-test
	$(BIN)/python tests/fuzz/fuzz.py --minutes 10

# A hundred kills of real commands at random moments; about half an hour.
torture: $(VENV)/.ready-to-test
	$(BIN)/python tests/torture/kill.py --kills 100
	$(BIN)/python tests/serve/killing.py --kills 20

lint: $(VENV)/.ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The bundled model from nothing: PHOTOS=folder of flawless kinds, REAL=folder of data sets to decide by.
PHOTOS ?= ../shared/data/normal
REAL ?=
model: $(VENV)/.ready-to-test
	$(PIP) -e '.[train,elpv]'
	$(BIN)/python -m training --photos '$(PHOTOS)' $(if $(REAL),--real '$(REAL)')

clean:
	rm -rf $(VENV) demo dist build
