/* lwIP's memory of variable size: headers of segments sent by reference, short copies
 * (response headers), and full segments that were copied. Ascending sizes. */
LWIP_MALLOC_MEMPOOL_START
LWIP_MALLOC_MEMPOOL(NET_SEGMENTS + 256, 128)
LWIP_MALLOC_MEMPOOL(NET_CONNECTIONS, 640)
LWIP_MALLOC_MEMPOOL(NET_CONNECTIONS / 4, 1664)
LWIP_MALLOC_MEMPOOL_END
