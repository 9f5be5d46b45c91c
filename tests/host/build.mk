# Tools of the host that are made of the kernel's own sources: `make host`.
#   build/host/bpf-plugin   runs a conformance case of the virtual machine
#   build/host/targe-code   verifies and shows a program; `targe code` calls it
#   build/host/targe-filter tries a condition on frames; `targe filter` calls it
# And the fuzz targets, by clang: `make fuzz` gives build/fuzz/fuzz_*; tests/fuzz/run runs them.
.PHONY: host fuzz
CODE_KERNEL := $(wildcard kernel/code/*.c)
CODE_HOST := $(CODE_KERNEL) tools/code/interpret.c tools/code/host.c tools/code/panic.c
CODE_INCLUDES := -Ikernel -Itools/code -Ilibos/lib -I$(ABI)
CODE_HEADERS := $(wildcard kernel/code/*.h tools/code/*.h libos/lib/code/*.h tests/fuzz/*.h) \
                kernel/lib/base.h

host: build/host/bpf-plugin build/host/targe-code build/host/targe-filter
build/host/bpf-plugin: $(CODE_HOST) tools/code/bpf_plugin.c
build/host/targe-code: $(CODE_HOST) tools/code/targe_code.c libos/lib/code/object.c
build/host/bpf-plugin build/host/targe-code: $(CODE_HEADERS) $(ABI_STAMP)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g $(WARN) -fno-strict-aliasing -DHOST_TEST $(CODE_INCLUDES) \
	      -o $@ $(filter %.c,$^)

build/host/targe-filter: kernel/net/filter.c tools/filter/targe_filter.c kernel/net/filter.h kernel/lib/base.h $(ABI_STAMP)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g $(WARN) -fno-strict-aliasing -DHOST_TEST $(CODE_INCLUDES) \
	      -o $@ $(filter %.c,$^)

FUZZ_CODE := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_code_*.c))
fuzz: $(FUZZ_CODE) build/fuzz/fuzz_filter build/fuzz/fuzz_tcp build/fuzz/fuzz_http
build/fuzz/fuzz_filter: tests/fuzz/fuzz_filter.c kernel/net/filter.c kernel/net/classify.c tools/code/panic.c \
                        $(wildcard kernel/net/*.h) kernel/lib/base.h $(ABI_STAMP)
	@mkdir -p $(@D)
	clang -std=gnu11 -O1 -g $(WARN) -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	      -fno-sanitize-recover=undefined -DHOST_TEST $(CODE_INCLUDES) -o $@ $(filter %.c,$^)
build/fuzz/fuzz_tcp: tests/fuzz/fuzz_tcp.c tests/host/wire.c $(TCP_SOURCES) $(wildcard libos/lib/tcp/*.h) tests/host/wire.h \
                     $(ABI_STAMP)
	@mkdir -p $(@D)
	clang -std=gnu11 -O1 -g $(WARN) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	      -I$(ABI) -Ilibos -Ilibos/lib -o $@ $(filter %.c,$^)
build/fuzz/fuzz_code_%: tests/fuzz/fuzz_code_%.c tests/fuzz/shape.c $(CODE_HOST) \
                        libos/lib/code/object.c $(CODE_HEADERS) $(ABI_STAMP)
	@mkdir -p $(@D)
	clang -std=gnu11 -O1 -g $(WARN) -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	      -fno-sanitize-recover=undefined -DHOST_TEST $(CODE_INCLUDES) -o $@ $(filter %.c,$^)
