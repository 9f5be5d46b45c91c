# mini: the smallest useful library operating system.
$(eval $(call program,mini,libos/mini/mini.c $(LIBS_BASE),,))
