# TCP of our own (libos/lib/tcp), for servers. -DNET_CONNECTIONS=N is how many connections it can have.
TCP_SOURCES := $(addprefix libos/lib/tcp/,tcp.c output.c timer.c segment.c sum.c) libos/lib/net/siphash.c

# And lwIP, from the distribution's source package, with the glue around it.
# NET_SOURCES are compiled with LWIP_FLAGS. lwIP's memory is static, so each size of it
# (-DNET_CONNECTIONS=N, see libos/lib/net/lwip/lwipopts.h) is a library of its own.
LWIP_SOURCE := build/lwip/source
LWIP_THERE := $(LWIP_SOURCE)/src/core/tcp.c
LWIP_FLAGS := -Ilibos/lib/net/lwip -isystem $(LWIP_SOURCE)/src/include
NET_SOURCES := $(addprefix libos/lib/net/,net.c neighbour.c siphash.c backlog.c)
LWIP_PROGRAM_CFLAGS = $(filter-out -MMD -MP -W%,$(PROGRAM_CFLAGS)) -D__NO_INLINE__

$(LWIP_THERE): | tools/lwip.sh
	@echo "fetching lwIP's source package"
	tools/lwip.sh build/lwip

# $(call lwip,FOLDER,FLAGS): lwIP as FOLDER/liblwip.a
define lwip
$(1)/liblwip.a: $(LWIP_THERE) tools/lwip.mk libos/lib/build.mk $(wildcard libos/lib/net/lwip/*.h libos/lib/net/lwip/arch/*.h)
	$$(MAKE) -f tools/lwip.mk OUT=$(1) CC='$$(CC)' CFLAGS='$(2)' SOURCE=$(LWIP_SOURCE)
endef

# Application-level virtual memory (docs/vm.md), for programs that link LIBS_BASE too.
LIBS_VM := $(addprefix libos/lib/vm/,vm.c meta.c batch.c frames.c places.c share.c radix.c hashed.c swap.c swap_server.c)
