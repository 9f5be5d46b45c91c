# realtime: a period that is kept beside a greedy environment.
$(eval $(call program,realtime,apps/realtime/realtime.c $(LIBS_BASE),,))
