/* PCI: what is there, and how a driver reaches it. Boot time only, one CPU. */
#pragma once
#include "lib/base.h"

struct pci_device {
    u8 bus, slot, function;
    u16 vendor, device;
    bool driven; /* by the kernel */
    u32 class; /* class << 16 | subclass << 8 | interface */
};

#define PCI_CAPABILITY_VENDOR 0x09
#define PCI_CAPABILITY_MSIX 0x11

/* Finds every device, bridges' buses included; what the firmware assigned stays as it is. */
void pci_init(void);
/* The next device after `after` (NULL: the first) of this vendor and class; NULL: no more. */
const struct pci_device *pci_find(const struct pci_device *after, u16 vendor, u32 class);

/* After the drivers have enabled what is theirs: memory of all other devices (not bridges) becomes DEVICE pages. These devices
 * cannot reach memory themselves. */
void pci_expose(void);

u8 pci_read8(const struct pci_device *d, u32 offset);
u16 pci_read16(const struct pci_device *d, u32 offset);
u32 pci_read32(const struct pci_device *d, u32 offset);

/* Offset of the next capability of this kind after the one at `after` (0: the first); 0: none. */
u32 pci_capability(const struct pci_device *d, u32 after, u8 kind);
/* Maps `bytes` at offset of a memory BAR, NULL if they are not all inside it. */
volatile void *pci_map(const struct pci_device *d, u32 bar, u64 offset, u64 bytes);
/* Lets the device decode memory and read and write it; its interrupt line is turned off. */
void pci_enable(const struct pci_device *d);
/* Has entries 0 to count - 1 of the device's MSI-X table interrupt the CPU of that number, which runs the handler with
 * it, and masks the others. False: it has no MSI-X or fewer entries. */
bool pci_msix(const struct pci_device *d, void (*handler)(u32 entry), u32 count);
