# testinit: takes init's place in a test machine. It is runner, tests and their parts in one program;
# LIBS_* come from libos/init/build.mk.
$(eval $(call program,testinit,$(wildcard tests/guest/*.c tests/guest/*.S tests/abuse/*.c tests/abuse/*.S) $(LIBS_SPAWN) $(LIBS_BASE) $(LIBS_VM),-Itests/guest -Itests/abuse,))
