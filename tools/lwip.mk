# Builds lwIP's TCP over IPv4 as a static library. Called by libos/lib/build.mk in a make of its
# own, because the list of sources is known only when tools/lwip.sh has fetched them.
#
#   make -f tools/lwip.mk OUT=folder CC=compiler CFLAGS='...' [SOURCE=build/lwip/source]
#
# gives OUT/liblwip.a. Whatever files the release at hand has in core and core/ipv4 are compiled:
# what lwipopts.h switches off becomes empty.
SOURCE ?= build/lwip/source
FILES := $(wildcard $(SOURCE)/src/core/*.c $(SOURCE)/src/core/ipv4/*.c)
OBJECTS := $(patsubst $(SOURCE)/src/%.c,$(OUT)/%.o,$(FILES))
OPTIONS := $(wildcard libos/lib/net/lwip/*.h libos/lib/net/lwip/arch/*.h)

$(OUT)/liblwip.a: $(OBJECTS)
	@rm -f $@
	ar rcs $@ $(OBJECTS)
$(OUT)/%.o: $(SOURCE)/src/%.c $(OPTIONS) tools/lwip.mk libos/lib/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -w -Ilibos/lib/net/lwip -I$(SOURCE)/src/include -c $< -o $@
