# parent: an environment with children, to be killed.
$(eval $(call program,parent,tests/system/parent.c $(LIBS_BASE),,))
