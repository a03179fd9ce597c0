# SPDX-License-Identifier: MIT
#
# The front door. meson does the work, in build/<configuration>; this file only knows the names.
#
#   make         build (gcc)            make run     a Debian kernel to a shell, here
#   make test    all quick tests        make bench   beside QEMU TCG and native
#   make check   unit and tree tests    make long    tests of minutes
#   make soak N=50   boots in a row     make fuzz SECONDS=60   each fuzz target
#   make bench-ways  what hosts that lack something get, beside what this one has
#   make bench-before BEFORE=COMMIT   the same rows beside lodge as it was then
#   make bench-life  pause, fork, save, restore of a guest that has booted
#   make bench-firmware  from nothing to a shell by SeaBIOS and OVMF, beside QEMU TCG
#   make bench-moves save, restore, migrate, beside QEMU TCG
#   make bench-net bench-disk bench-start   a guest's network through NAT, beside QEMU TCG
#   make bench-disk  a guest's disks, beside QEMU TCG and the host's own fio
#   make bench-start the time to the first instruction; what an idle guest takes
#   make bench-img   lodge-img beside qemu-img (valgrind counts instructions)
#   make bench-handoff   an exit to the VMM, and to one in another process
#   make hostile HOURS=1   attacks with other seeds, with and without sanitizers
#   make oracle CASES=10000000   random instructions beside the CPU; goes on where it ended
#   make hosts   lodge in containers, sandboxes, guests: boots, or what is in the way
#   make fmt, longest                   make clean   forget builds, keep downloads
#
# A machine with nothing but make and a Debian package manager is enough: tools/setup fetches the
# rest, and does nothing where it is already there.

BUILD := build
LODGE := $(BUILD)/gcc/prog/lodge/lodge
GUEST := $(or $(LODGE_GUEST),$(BUILD)/guest)
J     := $(shell nproc)
N     := 50
HOURS := 1
CASES := 10000000
SEED  := 1
SECONDS := 60

.DELETE_ON_ERROR:
.PHONY: all help setup run test guests check asan clang fuzz bench bench-ways bench-before bench-handoff bench-life bench-firmware bench-moves bench-net bench-img hosts hostile oracle \
	soak long fmt longest clean distclean

all: setup $(BUILD)/gcc/build.ninja
	@ninja -C $(BUILD)/gcc -j $(J)

help:
	@sed -n '/^#   make/s/^#  //p' Makefile

setup:
	@tools/setup

$(BUILD)/gcc/build.ninja: | setup
	CC=gcc meson setup $(BUILD)/gcc

$(BUILD)/clang/build.ninja: | setup
	CC=clang meson setup $(BUILD)/clang

$(BUILD)/asan/build.ninja: | setup
	CC=clang meson setup $(BUILD)/asan -Db_sanitize=address,undefined -Db_lundef=false \
		-Doptimization=1

clang asan: %: $(BUILD)/%/build.ninja
	@ninja -C $(BUILD)/$* -j $(J)

$(BUILD)/fuzz/build.ninja: | setup
	CC=clang meson setup $(BUILD)/fuzz -Dfuzz=true -Db_sanitize=address,undefined \
		-Db_lundef=false -Doptimization=1

# Each target for SECONDS; what is found is left in build/fuzz, and belongs into fuzz/seeds, as text:
# xxd -p.
FUZZ := $(filter-out replay,$(basename $(notdir $(wildcard fuzz/*.c))))
fuzz: $(BUILD)/fuzz/build.ninja
	@ninja -C $(BUILD)/fuzz -j $(J) $(FUZZ:%=fuzz/fuzz_%)
	@cd $(BUILD)/fuzz && for n in $(FUZZ); do \
		echo "== $$n"; mkdir -p corpus/$$n; \
		for s in $(CURDIR)/fuzz/seeds/$$n/*; do \
			python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))' \
				<$$s >corpus/$$n/$$(basename $$s .hex); \
		done; \
		fuzz/fuzz_$$n -max_total_time=$(SECONDS) -max_len=4096 -verbosity=0 \
			corpus/$$n || exit 1; \
	done

run: all
	@tools/guest/fetch cloud
	@$(LODGE) run --kernel $(GUEST)/cloud/vmlinuz --initrd $(GUEST)/cloud/initrd \
		--append "console=ttyS0"

# Behaviour is tested on gcc's build; units on that and on clang's with sanitizers. clang's without them is in `make long`.
# While that one is built, guests are: they wait for the network.
test: all
	@$(MAKE) --no-print-directory -j 2 asan guests
	@tools/run-tests $(BUILD)/gcc $(BUILD)/asan:unit

guests: all
	@tools/guest/fetch
	@tools/guest/disk || echo "make: tests that need it will be skipped"
	@tools/guest/image $(LODGE) || echo "make: tests that need it will be skipped"

# While working: what is quick and needs no guest, on one build.
check: all
	@tools/run-tests $(BUILD)/gcc:unit,tree

long: all clang guests
	@tools/guest/disk dev
	@tools/guest/others
	@tools/guest/udebs || echo "make: tests that need it will be skipped"
	@tools/run-tests -j 1 $(BUILD)/gcc:long $(BUILD)/clang:unit

hosts: all
	@tools/guest/fetch
	@tests/hosts/run --table long

hostile: all asan
	@tools/hostile $(HOURS) $(BUILD)/gcc $(BUILD)/asan

oracle: all
	@tools/oracle $(CASES) $(SEED)

soak: all
	@tools/guest/fetch
	@tools/soak $(LODGE) $(N)

bench: all
	@tools/guest/fetch
	@tools/guest/disk
	@bench/run

bench-ways: all
	@tools/guest/fetch cloud
	@bench/run --rounds 9 --best --parts kernels --only integer \
		--engines lodge,lodge:gsrepair,lodge:nogs,lodge:nobmi1,lodge:nogs+nobmi1,lodge:fxsave

bench-before: all
	@tools/before $(BEFORE)
	@tools/guest/fetch
	@tools/guest/disk
	@bench/run --rounds 9 --best --engines lodge,before --before $(BUILD)/before/$(BEFORE)/build/prog/lodge/lodge

bench-life: all
	@tools/guest/fetch cloud
	@$(BUILD)/gcc/bench/life $(GUEST)/cloud/vmlinuz $(GUEST)/cloud/initrd console=ttyS0
	@bench/command
	@bench/forks

bench-firmware: all
	@tools/guest/fetch cloud
	@tools/guest/image $(LODGE)
	@bench/firmware

bench-img: all
	@bench/img

bench-start: all
	@tools/guest/fetch cloud
	@tools/guest/image $(LODGE)
	@bench/start

bench-moves: all
	@tools/guest/fetch cloud
	@bench/moves

bench-net: all
	@tools/guest/fetch cloud
	@tools/guest/disk
	@bench/net

bench-disk: all
	@tools/guest/fetch generic
	@tools/guest/disk
	@bench/disk

bench-handoff: all
	@$(BUILD)/gcc/bench/handoff

# Only what was changed: tables and the like are laid out by hand.
fmt: setup
	@git clang-format -f --extensions c,h

longest:
	@tools/longest

clean:
	rm -rf $(BUILD)/gcc $(BUILD)/clang $(BUILD)/asan

distclean:
	rm -rf $(BUILD)
