/* The order in which the kernel comes up. Each step may use what those before it made. */
#include "boot/boot.h"
#include "core/cap.h"
#include "core/check.h"
#include "core/console.h"
#include "core/info.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/schedule.h"
#include "dev/dev.h"
#include "dev/pci.h"
#include "dev/serial.h"
#include "net/flow.h"
#include "x86/apic.h"
#include "x86/clock.h"
#include "x86/cpu.h"
#include "x86/io.h"

#define SLICE_US 1000    /* length of a time slice */
#define ALLOWANCE_US 200 /* and of the allowance at its end */

NORETURN void kernel_main(u32 loader, u64 at);

/* 64 bits that an outsider cannot guess: from the CPU's generator where it has one. */
static u64 random_bits(void) {
    u64 value = rdtsc() * 0x9e3779b97f4a7c15ull;

    if (cpuid(1, 0).c >> 30 & 1)
        for (int i = 0; i < 10; i++) {
            u64 drawn;
            u8 good;
            __asm__ volatile("rdrand %0; setc %1" : "=r"(drawn), "=q"(good));
            if (good)
                return value ^ drawn;
        }
    for (int i = 0; i < 64; i++) { /* jitter of a slow port */
        inb(0x61);
        value = (value << 7 | value >> 57) ^ rdtsc() * 0xff51afd7ed558ccdull;
    }
    return value;
}

static void fill_info(void) {
    info->magic = INFO_MAGIC;
    info->version = ABI_VERSION;
    info->tsc_hz = tsc_hz;
    info->boot_tsc = boot_tsc;
    info->boot_time = clock_date();
    info->archive = page_of_phys((phys){boot.archive.begin});
    info->archive_bytes = boot.archive.end - boot.archive.begin;
    info->archive_pages = (u32)(round_up(info->archive_bytes, PAGE_SIZE) / PAGE_SIZE);
    memcpy(info->command_line, boot.command_line, sizeof boot.command_line);
    info->slices[0] = page_of_phys(ptr_phys(this_cpu()->slices));
    info->trace[0] = page_of_phys(ptr_phys(this_cpu()->trace));
    this_cpu()->slices->length = tsc_hz / 1000000 * SLICE_US;
    this_cpu()->slices->allowance = tsc_hz / 1000000 * ALLOWANCE_US;
#ifdef DEBUG
    info->debug = 1;
#endif
}

void kernel_main(u32 loader, u64 at) {
    serial_init();
    boot_parse(loader, at);
    cpu_features_init();
    memory_init();
    cpu_init(cpu_make(0));
    cpu_count = 1;
    acpi_init(boot.rsdp);
    apic_init();
    apic_init_cpu();
    this_cpu()->apic = this_cpu()->slices->apic = apic_id();
    clock_init();
    fill_info();
    cap_init((u64[2]){random_bits(), random_bits()});
    u32 root_flow = flow_init(random_bits());
    console_init();
    smp_start();
    net_device_init();
    pci_expose();
    check_init();
    u32 env = first_env_make();
    memory_finish();
    first_env_start(env, root_flow);
    print("targe: CPUs: %u, %lu MiB, %u pages free\n", cpu_count, info->ram_pages / 256, page_free_count());
    schedule();
}

void panic(const char *format, ...) {
    va_list args;

    va_start(args, format);
    print("targe: panic: ");
    vprint(format, args);
    print("\n");
    va_end(args);
    machine_end(POWER_FAIL);
}
