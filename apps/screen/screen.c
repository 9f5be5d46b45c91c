/* The map of physical memory, live, on the machine's screen: a square for each page, coloured by its owner.
 *
 * A library OS that drives a device by its memory alone: the frame buffer of QEMU's bochs-display (or VGA) and its mode
 * registers are DEVICE pages, which the manifest gives by `device=1234:1111`. What it draws it reads from the exposed page array. */
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "machine/machine.h"

#define DISPLAY 0x12341111u
#define FRAME_BUFFER 0 /* base address registers */
#define REGISTERS 2
#define MODE_AT 0x500 /* the mode registers, 16 bits each, within the second */
enum { MODE_ID, MODE_WIDTH, MODE_HEIGHT, MODE_DEPTH, MODE_ENABLE };
#define MODE_ID_FIRST 0xb0c0
#define MODE_ON 0x41 /* enabled, and linear */

#define WIDTH 800
#define HEIGHT 600
#define LARGEST 16 /* side of a square in pixels, at most */
#define REFRESH_MS 100

static volatile u32 *pixels;
static u32 side;         /* of a square */
static u32 group;        /* pages that one square stands for; the first gives the colour */
static u32 *shown;       /* the colour of each square */

/* A region of the display's memory, its first pages mapped: NULL if it was not given. */
static volatile void *map_region(u32 bar, u32 pages) {
    const struct start_item *item;

    for (u32 n = 0; (item = start_item("device", n)); n++)
        if (item->a == DISPLAY && item->b == bar && item->cap.count >= pages)
            return memory_map(item->cap.name, pages, MAP_WRITE, &item->cap);
    return NULL;
}

static bool set_mode(void) {
    volatile u8 *registers = map_region(REGISTERS, 1);
    volatile u16 *mode = (volatile u16 *)(registers + MODE_AT);

    if (!registers || (mode[MODE_ID] & 0xfff0) != MODE_ID_FIRST)
        return false;
    mode[MODE_ENABLE] = 0;
    mode[MODE_WIDTH] = WIDTH;
    mode[MODE_HEIGHT] = HEIGHT;
    mode[MODE_DEPTH] = 32;
    mode[MODE_ENABLE] = MODE_ON;
    return true;
}

/* Owners get colours that are far from each other; what nobody owns is grey, by type. */
static u32 colour_of(const struct page *p) {
    u32 mixed = p->owner * 2654435761u;
    u8 type = (u8)p->state;

    if (p->owner)
        return (0x404040 | mixed >> 8) & 0xffffff;
    return type == PAGE_FREE ? 0x202020 : type == PAGE_ABSENT ? 0 : 0x808080;
}

static void draw_square(u32 n, u32 colour) {
    u32 across = WIDTH / side, x = n % across * side, y = n / across * side, gap = side > 3;

    for (u32 row = 0; row < side - gap; row++)
        for (u32 column = 0; column < side - gap; column++)
            pixels[(y + row) * WIDTH + x + column] = colour;
}

/* The largest squares of which there is one for each page, or for as few pages as can be. */
static bool lay_out(u32 pages) {
    side = LARGEST;
    while (side > 1 && (WIDTH / side) * (HEIGHT / side) < pages)
        side--;
    u32 squares = (WIDTH / side) * (HEIGHT / side);
    group = (pages + squares - 1) / squares;
    shown = memory_alloc((u32)((squares * sizeof *shown + RT_PAGE - 1) / RT_PAGE));
    return shown;
}

int main(void) {
    const struct page *pages = machine_pages();
    u32 count = machine_info()->pages;

    pixels = map_region(FRAME_BUFFER, (WIDTH * HEIGHT * 4 + RT_PAGE - 1) / RT_PAGE);
    if (!pages || !pixels || !set_mode() || !lay_out(count)) {
        print("screen: there is no display to draw on\n");
        return 1;
    }
    print("screen: %u x %u, %u pages to a square of %u pixels\n", WIDTH, HEIGHT, group, side);
    for (;;) {
        for (u32 n = 0; n * group < count; n++) {
            u32 colour = colour_of(&pages[n * group]);
            if (colour == shown[n])
                continue;
            shown[n] = colour;
            draw_square(n, colour);
        }
        sys_sleep(rt_tsc() + machine_info()->tsc_hz / 1000 * REFRESH_MS, 0, 0);
    }
}
