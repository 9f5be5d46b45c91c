# bench: takes init's place in the machine that `./targe bench` boots. echo: a library OS that it measures.
$(eval $(call program,bench,$(wildcard bench/guest/*.c bench/guest/*.S) libos/init/flows.c $(LIBS_SPAWN) $(LIBS_BASE),-Ibench/guest,))
$(eval $(call program,echo,bench/echo/echo.c $(LIBS_BASE),,))
