/* lwIP's view of the compiler and of its surroundings: no C library but string.h. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define LWIP_NO_INTTYPES_H 1
#define LWIP_NO_CTYPE_H 1
#define LWIP_NO_UNISTD_H 1
#ifndef SSIZE_MAX /* else lwIP makes an ssize_t of its own, which nothing here uses */
#define SSIZE_MAX 0x7fffffffffffffffl
#endif
#define X8_F "x"
#define U16_F "u"
#define S16_F "d"
#define X16_F "x"
#define U32_F "u"
#define S32_F "d"
#define X32_F "x"
#define SZT_F "lu"

#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS 0
#define BYTE_ORDER LITTLE_ENDIAN
#define lwip_htons(x) __builtin_bswap16(x)
#define lwip_htonl(x) __builtin_bswap32(x)
#define LWIP_CHKSUM_ALGORITHM 3 /* 32 bits at a time */

/* net.c: an assertion of lwIP failed. Does not return. */
__attribute__((noreturn)) void net_panic(const char *message);
uint32_t net_random(void);
#define LWIP_RAND() net_random()
#define LWIP_PLATFORM_DIAG(x) ((void)0)
#define LWIP_PLATFORM_ASSERT(message) net_panic(message)
