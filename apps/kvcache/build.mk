# kvcache: the memcached protocol over UDP, with a handler in the kernel.
$(eval $(call downloaded,kvcache,apps/kvcache/answer.c))
$(OUT)/downloaded/kvcache.o: apps/kvcache/table.h
$(eval $(call program,kvcache,$(addprefix apps/kvcache/,kvcache.c store.c protocol.c) $(LIBS_CODE) $(LIBS_BASE),-Iapps,$(OUT)/downloaded/kvcache.link.o))
