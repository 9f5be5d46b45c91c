# The monitor, with an lwIP of its own size.
MONITOR_FLAGS := $(LWIP_FLAGS) -DNET_CONNECTIONS=64
MONITOR_PROGRAM := $(addprefix libos/monitor/,main.c line.c sheet.c views.c commands.c serve.c) \
                   $(NET_SOURCES) libos/lib/net/port_targe.c $(LIBS_BASE)
$(eval $(call lwip,$(OUT)/lwip-small,$(LWIP_PROGRAM_CFLAGS) -DNET_CONNECTIONS=64))
$(eval $(call program,monitor,$(MONITOR_PROGRAM),$(MONITOR_FLAGS),$(OUT)/lwip-small/liblwip.a))
$(patsubst %,$(OUT)/monitor/%.o,$(MONITOR_PROGRAM)): | $(LWIP_THERE)
build/host/libos/monitor/% build/host/tests/host/test_line%: HOST_CFLAGS += -Ilibos
