# screen: the map of memory on the machine's screen.
$(eval $(call program,screen,apps/screen/screen.c $(LIBS_BASE),,))
