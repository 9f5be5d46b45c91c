# The web libOS: build/VARIANT/programs/web.elf; and the same server as a Linux process on a tap
# device, build/host/web-host (with sanitizers: web-host-asan), for development and tests.
HTTP_SOURCES := $(addprefix libos/web/,answer.c http.c http_date.c http_known.c http_request.c live.c \
                machine_json.c site.c text.c)
WEB_SOURCES := $(HTTP_SOURCES) $(addprefix libos/web/,serve.c web.c) $(TCP_SOURCES)

WEB_PROGRAM := $(WEB_SOURCES) libos/web/main.c libos/lib/net/port_targe.c libos/lib/net/backlog.c $(LIBS_BASE)
# One request goes through some forty small functions of ten files: gcc is let to put them together.
WEB_CFLAGS := -fbuiltin
ifeq ($(findstring clang,$(CC)),)
WEB_CFLAGS += -flto -O2 -finline-limit=2000
endif
$(eval $(call program,web,$(WEB_PROGRAM),$(WEB_CFLAGS),))

# ---------------------------------------------------------------- on Linux
WEB_HOST_SOURCES := $(WEB_SOURCES) libos/lib/net/port_tap.c $(wildcard libos/web/host/*.c)
WEB_HOST_CFLAGS := -std=gnu11 -g -O2 $(WARN) -MMD -MP -I$(ABI) -Ilibos -Ilibos/lib
WEB_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
# $(call web_host,NAME,FLAGS)
define web_host
$(1)_OBJECTS := $(patsubst %,build/host/$(1).d/%.o,$(WEB_HOST_SOURCES))
$$($(1)_OBJECTS): build/host/$(1).d/%.o: % $(ABI_STAMP)
	@mkdir -p $$(@D)
	$$(CC) $(WEB_HOST_CFLAGS) $(2) -c $$< -o $$@
build/host/$(1): $$($(1)_OBJECTS)
	$$(CC) $(2) -o $$@ $$($(1)_OBJECTS)
-include $$(patsubst %.o,%.d,$$($(1)_OBJECTS))
endef
$(eval $(call web_host,web-host,))
$(eval $(call web_host,web-host-asan,$(WEB_SANITIZE)))

# Host tests and the fuzzer build libOS sources as ordinary C.
build/host/libos/% build/host/tests/host/test_http% build/host/tests/host/test_tcp% build/host/tests/host/wire%: HOST_CFLAGS += -Ilibos -Ilibos/lib
build/fuzz/fuzz_http: tests/fuzz/fuzz_http.c $(HTTP_SOURCES) libos/web/host/fake_machine.c \
                      $(ABI_STAMP)
	@mkdir -p $(@D)
	clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	      -I$(ABI) -Ilibos -Ilibos/lib -o $@ $(filter %.c,$^)
