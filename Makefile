# flashkda for people. The build itself is CMakeLists.txt; what is missing on the machine is installed by tools/bootstrap.
.PHONY: help demo quick check check-long check-aarch64 check-gpu bench build wheel check-wheel clean
help:
	@echo "make demo    KDA prefill on recorded activations, on the best backend of this machine; then a language model writes"
	@echo "make quick   what a change breaks most often, in ten seconds: the quick C suites on a build without CUDA, ruff"
	@echo "make check   every test: C suites, the same under sanitizers, command line, Python, flash-linear-attention"
	@echo "make check-long  the same with all random draws and repetitions, not one of each case"
	@echo "make check-aarch64  the C suites, cross-compiled for aarch64 and run under qemu-user"
	@echo "make check-gpu   what only a Hopper GPU can show: every GPU test, stress, sanitizers; without one it says so and stops"
	@echo "make bench   CPU backend against plain loops, one thread and two; a table, JSON lines and a picture in out/"
	@echo "make build   library and command line in build/release"
	@echo "make wheel   what is published: source archive, from it the wheel for Linux with the CUDA backend, audited; in out/wheel"
	@echo "make check-wheel  installs both in fresh environments of every Python on the PATH, with old and new torch (gigabytes)"
	@echo "make clean   remove what was built (keeps .venv and .cache)"

build:
	@tools/bootstrap build
	@tools/build release

demo:
	@tools/bootstrap build
	@tools/build release -DFKDA_BUILD_EXAMPLES=ON
	@tools/demo

quick:
	@tools/bootstrap check
	@tools/build dev --preset dev
	@.venv/bin/python -m ruff check --quiet .
	@ctest --preset quick -j $$(nproc) --progress

check:
	@tools/bootstrap check
	@.venv/bin/python tools/check.py

check-long:
	@tools/bootstrap check
	@.venv/bin/python tools/check.py --long

check-aarch64:
	@tools/bootstrap aarch64
	@tools/build aarch64 --preset aarch64
	@export FKDA_TEST_DRAWS=$${FKDA_TEST_DRAWS:-fewer:$$(date +%N)}; echo "==> FKDA_TEST_DRAWS=$$FKDA_TEST_DRAWS" && \
	 ctest --preset aarch64 -j $$(nproc) --progress

check-gpu:
	@tools/bootstrap check
	@.venv/bin/python tools/gpu/pack_gpu.py
	@.venv/bin/python tools/gpu/check_gpu.py || [ $$? -eq 77 ]

bench:
	@tools/bootstrap bench
	@tools/build bench -DFKDA_BUILD_BENCH=ON
	@python3 tools/bench.py

wheel:
	@tools/bootstrap wheel
	@.venv/bin/python tools/wheel.py

check-wheel:
	@tools/bootstrap wheel
	@.venv/bin/python tools/try_wheel.py

clean:
	rm -rf build out
