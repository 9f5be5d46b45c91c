# echo: the counter in a UDP datagram, answered by a handler in the kernel and by a library OS.
$(eval $(call downloaded,echo,apps/echo/answer.c))
$(eval $(call downloaded,judge,apps/echo/judge.c))
$(eval $(call program,echo,apps/echo/echo.c $(LIBS_CODE) $(LIBS_BASE),,$(OUT)/downloaded/echo.link.o $(OUT)/downloaded/judge.link.o))
# greedy: what `./targe bench network` puts beside it.
$(eval $(call program,greedy,apps/echo/greedy.c,,))
