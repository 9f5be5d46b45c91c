# Memory under pressure, seen live: see docs/vm.md and apps/pressure/manifest.
PRESSURE_COMMON := apps/pressure/common.c $(LIBS_BASE)
$(eval $(call program,swapd,apps/pressure/swapd.c $(PRESSURE_COMMON) $(LIBS_VM),,))
$(eval $(call program,cache,apps/pressure/cache.c $(PRESSURE_COMMON) $(LIBS_VM),,))
$(eval $(call program,hungry,apps/pressure/hungry.c $(PRESSURE_COMMON) $(LIBS_VM),,))
$(eval $(call program,mute,apps/pressure/mute.c $(PRESSURE_COMMON),,))
