# bench: takes init's place in the machine that `./targe bench` boots.
$(eval $(call program,bench,$(wildcard bench/guest/*.c bench/guest/*.S) $(LIBS_SPAWN) $(LIBS_BASE),-Ibench/guest,))
