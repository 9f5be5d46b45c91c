# Builds the kernel and every program. `./targe build` calls this; see docs/running.md.
#
#   make [VARIANT=release|debug|ubsan]   the kernel and all programs in build/VARIANT
#   make host-tests                      tests of kernel modules that need no machine
#   make reference                       docs/reference.md from abi/targe.toml

VARIANT ?= release
ifeq ($(origin CC),default)
CC := gcc
endif
ifndef V
.SILENT:
endif
PYTHON ?= /usr/bin/python3
OUT := build/$(VARIANT)
ABI := build/abi

WARN := -Wall -Wextra -Wno-unused-parameter -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
BASE := -std=gnu11 -O2 -g -ffreestanding -fno-pic -fno-pie -fno-stack-protector \
        -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing \
        -fno-common -MMD -MP -m64 -march=x86-64 -I$(ABI) $(WARN)

KERNEL_CFLAGS := $(BASE) -mgeneral-regs-only -mno-red-zone -mcmodel=kernel -Ikernel
ifeq ($(findstring clang,$(CC)),)
KERNEL_CFLAGS += -fno-align-loops -fno-align-jumps # most of its loops go round once
endif
PROGRAM_CFLAGS := $(BASE) -mgeneral-regs-only -Ilibos -Ilibos/rt -Ilibos/lib
ifneq ($(VARIANT),release)
KERNEL_CFLAGS += -DDEBUG
endif
ifeq ($(VARIANT),ubsan)
KERNEL_CFLAGS += -fsanitize=undefined -fno-sanitize=alignment
endif

.DELETE_ON_ERROR:
.PHONY: all kernel programs reference clean host-tests
all: kernel programs

# ---------------------------------------------------------------- interface
ABI_STAMP := $(ABI)/stamp
$(ABI_STAMP): abi/targe.toml abi/generate.py
	@mkdir -p $(@D)
	$(PYTHON) abi/generate.py $(ABI)
	@touch $@
reference: $(ABI_STAMP)
	$(PYTHON) abi/generate.py $(ABI) --reference docs/reference.md

# ---------------------------------------------------------------- kernel
KERNEL_SOURCES := $(wildcard kernel/*/*.c kernel/*/*.S)
ifeq ($(VARIANT),ubsan)
KERNEL_SOURCES += tests/ubsan.c # what the sanitizer calls
endif
KERNEL_OBJECTS := $(patsubst %,$(OUT)/%.o,$(KERNEL_SOURCES))
kernel: $(OUT)/targe.elf
$(OUT)/targe.elf: $(KERNEL_OBJECTS) kernel/boot/kernel.ld
	$(CC) $(if $(findstring clang,$(CC)),,$(KERNEL_CFLAGS)) -nostdlib -static -no-pie -Wl,-T,kernel/boot/kernel.ld -Wl,--build-id=none \
	      -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
	      -o $@ $(KERNEL_OBJECTS)
ifeq ($(VARIANT)$(findstring clang,$(CC)),release) # a frame's way is seen as one
$(OUT)/kernel/net/flow.c.o $(OUT)/kernel/net/handler.c.o $(OUT)/kernel/dev/virtio_net.c.o: KERNEL_CFLAGS += -flto
endif
$(OUT)/kernel/%.c.o: kernel/%.c $(ABI_STAMP)
	@mkdir -p $(@D)
	$(CC) $(KERNEL_CFLAGS) -c $< -o $@
$(OUT)/tests/ubsan.c.o: tests/ubsan.c $(ABI_STAMP)
	@mkdir -p $(@D)
	$(CC) $(KERNEL_CFLAGS) -c $< -o $@
$(OUT)/kernel/%.S.o: kernel/%.S $(ABI_STAMP)
	@mkdir -p $(@D)
	$(CC) $(KERNEL_CFLAGS) -c $< -o $@

# ---------------------------------------------------------------- programs
# $(call program,NAME,SOURCES,CFLAGS,EXTRA): an executable for Targe in $(OUT)/programs/NAME.elf,
# linked with libos/rt (-flto and -O of CFLAGS count there too), and without symbols in
# $(OUT)/programs/stripped, for boot archives. EXTRA are further objects or archives. All is made
# again when the build.mk that calls this changes; the files of dependencies are in MAKEFILE_LIST too.
PROGRAMS :=
RT_SOURCES := $(wildcard libos/rt/*.c libos/rt/*.S)
RT_OBJECTS := $(patsubst %,$(OUT)/%.o,$(RT_SOURCES))
CALLER = $(lastword $(filter %/build.mk,$(MAKEFILE_LIST)))
define program
PROGRAMS += $(OUT)/programs/$(1).elf
$(OUT)/programs/$(1).elf: $(patsubst %,$(OUT)/$(1)/%.o,$(2)) $(RT_OBJECTS) $(4) libos/rt/program.ld $(CALLER) Makefile
	@mkdir -p $$(@D)
	$$(CC) $(filter -flto -O%,$(3)) -nostdlib -static -no-pie -Wl,-T,libos/rt/program.ld \
	      -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -o $$@ $(patsubst %,$(OUT)/$(1)/%.o,$(2)) $(RT_OBJECTS) $(4)
	@mkdir -p $$(@D)/stripped
	strip -s -o $$(@D)/stripped/$$(@F) $$@
$(patsubst %,$(OUT)/$(1)/%.o,$(2)): $(OUT)/$(1)/%.o: % $(ABI_STAMP) $(CALLER)
	@mkdir -p $$(@D)
	$$(CC) $$(PROGRAM_CFLAGS) $(3) -c $$< -o $$@
-include $(patsubst %,$(OUT)/$(1)/%.d,$(2))
endef
# $(call downloaded,NAME,SOURCE): a program for the kernel's virtual machine, as an object in
# $(OUT)/downloaded/NAME.o, and as one to be linked into a libOS: EXTRA $(OUT)/downloaded/NAME.link.o.
define downloaded
$(OUT)/downloaded/$(1).o: $(2) libos/lib/code/program.h $(CALLER)
	@mkdir -p $$(@D)
	clang -O2 -g -target bpf -mcpu=v3 -Ilibos/lib -Wall -Wextra -Werror -Wno-unused-const-variable -c $$< -o $$@
$(OUT)/downloaded/$(1).link.o: $(OUT)/downloaded/$(1).o
	printf '.section .rodata\n.balign 8\n.globl downloaded_$(1), downloaded_$(1)_end\ndownloaded_$(1):\n.incbin "$$<"\ndownloaded_$(1)_end:\n.section .note.GNU-stack\n' | $$(CC) -x assembler -c - -o $$@
endef
$(OUT)/libos/%.o: libos/% $(ABI_STAMP)
	@mkdir -p $(@D)
	$(CC) $(PROGRAM_CFLAGS) -c $< -o $@
include $(wildcard libos/*/build.mk apps/*/build.mk tests/*/build.mk bench/build.mk)
programs: $(PROGRAMS)

-include $(patsubst %.o,%.d,$(KERNEL_OBJECTS) $(RT_OBJECTS))
clean:
	rm -rf build

# ---------------------------------------------------------------- host tests
# Each tests/host/test_X.c is built with the files in its line "// sources: a.c b.c" into
# build/host/test_X, a cmocka program. Kernel sources are compiled here as ordinary C.
HOST_TESTS := $(patsubst tests/host/%.c,build/host/%,$(wildcard tests/host/test_*.c))
HOST_CFLAGS := -std=gnu11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
               -fno-strict-aliasing $(WARN) -MMD -MP -DHOST_TEST -DDEBUG -Ikernel -I$(ABI) -Itests/host
host-tests: $(HOST_TESTS)
build/host/%.o: %.c $(ABI_STAMP)
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -c $< -o $@
define host_test
$(1)_OBJECTS := $$(patsubst %.c,build/host/%.o,tests/host/$(1).c tests/host/host.c \
                  $$(shell sed -n 's|^// sources:||p' tests/host/$(1).c))
build/host/$(1): $$($(1)_OBJECTS)
	$$(CC) -fsanitize=address,undefined -o $$@ $$($(1)_OBJECTS) -lcmocka
-include $$($(1)_OBJECTS:.o=.d)
endef
$(foreach test,$(HOST_TESTS),$(eval $(call host_test,$(notdir $(test)))))
