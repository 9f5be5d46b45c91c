# stride: a scheduler of the application's own; share: what it schedules.
$(eval $(call program,stride,apps/stride/stride.c $(LIBS_IPC) $(LIBS_BASE),,))
$(eval $(call program,share,apps/stride/share.c $(LIBS_IPC) $(LIBS_BASE),,))
