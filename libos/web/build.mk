# The web libOS: build/VARIANT/programs/web.elf; and the same server as a Linux process on a tap
# device, build/host/web-host (with sanitizers: web-host-asan), for development and tests.
LWIP_SOURCE := build/lwip/source
LWIP_THERE := $(LWIP_SOURCE)/src/core/tcp.c
LWIP_FLAGS := -Ilibos/lib/net/lwip -isystem $(LWIP_SOURCE)/src/include
NET_SOURCES := $(addprefix libos/lib/net/,net.c neighbour.c siphash.c)
HTTP_SOURCES := $(addprefix libos/web/,answer.c http.c http_date.c http_request.c live.c \
                machine_json.c site.c text.c)
WEB_SOURCES := $(HTTP_SOURCES) $(addprefix libos/web/,serve.c web.c) $(NET_SOURCES)

$(LWIP_THERE): | tools/lwip.sh
	@echo "fetching lwIP's source package"
	tools/lwip.sh build/lwip

# $(call lwip,FOLDER,FLAGS): lwIP as FOLDER/liblwip.a
define lwip
$(1)/liblwip.a: $(LWIP_THERE) tools/lwip.mk libos/web/build.mk $(wildcard libos/lib/net/lwip/*.h libos/lib/net/lwip/arch/*.h)
	$$(MAKE) -f tools/lwip.mk OUT=$(1) CC='$$(CC)' CFLAGS='$(2)' SOURCE=$(LWIP_SOURCE)
endef
$(eval $(call lwip,$(OUT)/lwip,$(filter-out -MMD -MP -W%,$(PROGRAM_CFLAGS)) -D__NO_INLINE__))

WEB_PROGRAM := $(WEB_SOURCES) libos/web/main.c libos/lib/net/port_targe.c $(LIBS_BASE)
$(eval $(call program,web,$(WEB_PROGRAM),$(LWIP_FLAGS),$(OUT)/lwip/liblwip.a))
$(patsubst %,$(OUT)/web/%.o,$(WEB_PROGRAM)): | $(LWIP_THERE)

# ---------------------------------------------------------------- on Linux
WEB_HOST_SOURCES := $(WEB_SOURCES) libos/lib/net/port_tap.c $(wildcard libos/web/host/*.c)
WEB_HOST_CFLAGS := -std=gnu11 -g -O2 $(WARN) -MMD -MP -I$(ABI) -Ilibos -Ilibos/lib $(LWIP_FLAGS)
WEB_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
# $(call web_host,NAME,FLAGS)
define web_host
$(1)_OBJECTS := $(patsubst %,build/host/$(1).d/%.o,$(WEB_HOST_SOURCES))
$$($(1)_OBJECTS): build/host/$(1).d/%.o: % $(ABI_STAMP) | $(LWIP_THERE)
	@mkdir -p $$(@D)
	$$(CC) $(WEB_HOST_CFLAGS) $(2) -c $$< -o $$@
build/host/$(1): $$($(1)_OBJECTS) build/host/lwip/liblwip.a
	$$(CC) $(2) -o $$@ $$($(1)_OBJECTS) build/host/lwip/liblwip.a
-include $$(patsubst %.o,%.d,$$($(1)_OBJECTS))
endef
$(eval $(call lwip,build/host/lwip,-std=gnu11 -g -O2))
$(eval $(call web_host,web-host,))
$(eval $(call web_host,web-host-asan,$(WEB_SANITIZE)))

# Host tests and the fuzzer build libOS sources as ordinary C.
build/host/libos/% build/host/tests/host/test_http%: HOST_CFLAGS += -Ilibos -Ilibos/lib
build/host/fuzz_http: tests/fuzz/fuzz_http.c $(HTTP_SOURCES) libos/web/host/fake_machine.c $(ABI_STAMP)
	clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	      -I$(ABI) -Ilibos -Ilibos/lib -o $@ $(filter %.c,$^)
