# parent: an environment with children, to be killed.
$(eval $(call program,parent,tests/system/parent.c $(LIBS_BASE),,))

# deaf: reads the console late.
$(eval $(call program,deaf,tests/system/deaf.c $(LIBS_BASE),,))
