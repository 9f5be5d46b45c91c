# bench: takes init's place in the machine that `./targe bench` boots. echo: a library OS that it measures.
$(eval $(call program,bench,$(wildcard bench/guest/*.c bench/guest/*.S) libos/init/flows.c $(LIBS_SPAWN) $(LIBS_IPC) $(LIBS_THREAD) $(LIBS_VM) $(LIBS_BASE),-Ibench/guest,))
$(eval $(call program,bench-echo,bench/echo/echo.c $(LIBS_BASE),,))
# web-small: the web server for 64 connections, for the smallest machine.
$(eval $(call program,web-small,$(WEB_PROGRAM),$(WEB_CFLAGS) -DNET_CONNECTIONS=64,))
# It computes with numbers that the rest of the program does not use, and says so to the kernel.
$(OUT)/bench/bench/guest/matrix.c.o: PROGRAM_CFLAGS := $(filter-out -mgeneral-regs-only,$(PROGRAM_CFLAGS))
