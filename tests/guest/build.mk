# testinit: takes init's place in a test machine. It is runner, tests and their parts in one program;
# LIBS_* come from libos/init/build.mk. Its handler does what a test tells it.
$(eval $(call downloaded,puppet,tests/guest/programs/puppet.c))
$(OUT)/downloaded/puppet.o: tests/guest/programs/puppet.h
$(eval $(call program,testinit,$(wildcard tests/guest/*.c tests/guest/*.S tests/abuse/*.c tests/abuse/*.S) libos/init/flows.c $(LIBS_SPAWN) $(LIBS_IPC) $(LIBS_THREAD) $(LIBS_BASE) $(LIBS_VM) $(LIBS_CODE),-Itests/guest -Itests/abuse,$(OUT)/downloaded/puppet.link.o))
