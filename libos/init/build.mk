# init: the first environment. LIBS_BASE are the sources that most programs link.
LIBS_BASE := $(addprefix libos/lib/,base/print.c base/start.c base/memory.c base/wait.c base/condition.c base/ring.c base/random.c \
             machine/machine.c)
LIBS_SPAWN := libos/lib/spawn/spawn.c libos/lib/base/archive.c
LIBS_CODE := libos/lib/code/object.c libos/lib/code/install.c
LIBS_IPC := libos/lib/ipc/ipc.c libos/lib/ipc/entry.S
LIBS_THREAD := libos/lib/thread/thread.c libos/lib/thread/switch.S
$(eval $(call program,init,libos/init/init.c libos/init/manifest.c libos/init/flows.c libos/init/memory.c $(LIBS_SPAWN) $(LIBS_BASE),,))
build/host/libos/init/% build/host/tests/host/test_manifest%: HOST_CFLAGS += -Ilibos -Ilibos/lib -Ilibos/rt
