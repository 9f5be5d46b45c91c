/* The site's index, see site.h. The archive was made on this machine's host and is not hostile,
 * but nothing in it is believed without a check: it is only bytes. */
#include "web/site.h"
#include "web/http_date.h"
#include "web/text.h"
#include <string.h>

#define BLOCK 512
#define PAGE 4096
#define HEAD_MOST 512 /* of a prepared head: about 330 are used */
#define PREFIX "site/"
#define INDEX "index.html"
#define INDEX_LENGTH 10u

/* ---- the archive */

struct member {
    const u8 *data;
    u64 size;
    u64 modified;
    char path[258]; /* prefix, slash, name */
    u32 length;
    bool regular;
};

static bool octal(const u8 *field, u32 width, u64 *value) {
    u32 i = 0;

    *value = 0;
    while (i < width && field[i] == ' ')
        i++;
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++)
        *value = *value * 8 + (u64)(field[i] - '0');
    return i == width || field[i] == 0 || field[i] == ' ';
}

static bool checksum_good(const u8 *header) {
    u64 said, sum = 8 * ' ';

    for (u32 i = 0; i < BLOCK; i++)
        sum += i >= 148 && i < 156 ? 0 : header[i];
    return octal(header + 148, 8, &said) && said == sum;
}

static u32 bounded(const u8 *field, u32 width) {
    u32 n = 0;

    while (n < width && field[n])
        n++;
    return n;
}

/* Reads the member at *offset and moves past it; false: the archive ends here. */
static bool next_member(const u8 *archive, u64 bytes, u64 *offset, struct member *m) {
    const u8 *header = archive + *offset;
    u64 left = bytes - *offset;

    if (left < BLOCK || memcmp(header + 257, "ustar", 5) != 0 || !checksum_good(header) ||
        !octal(header + 124, 12, &m->size) || m->size > left - BLOCK)
        return false;
    if (!octal(header + 136, 12, &m->modified))
        m->modified = 0;
    u32 prefix = bounded(header + 345, 155), name = bounded(header, 100);
    memcpy(m->path, header + 345, prefix);
    if (prefix)
        m->path[prefix++] = '/';
    memcpy(m->path + prefix, header, name);
    m->length = prefix + name;
    m->regular = header[156] == '0' || header[156] == 0;
    m->data = header + BLOCK;
    u64 whole = (m->size + BLOCK - 1) / BLOCK * BLOCK;
    *offset += BLOCK + (whole < left - BLOCK ? whole : left - BLOCK);
    return true;
}

/* The next file of the site; its path is without the prefix. */
static bool next_file(const u8 *archive, u64 bytes, u64 *offset, struct member *m) {
    const u32 skip = sizeof PREFIX - 1;

    while (next_member(archive, bytes, offset, m)) {
        if (!m->regular || m->length <= skip || memcmp(m->path, PREFIX, skip) != 0)
            continue;
        m->length -= skip;
        memmove(m->path, m->path + skip, m->length);
        return true;
    }
    return false;
}

/* ---- content types */

static const char *type_of(const char *path, u32 length) {
    static const struct {
        char extension[12];
        const char *type;
    } types[] = {
        {"html", "text/html; charset=utf-8"},
        {"htm", "text/html; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"json", "application/json"},
        {"map", "application/json"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/markdown; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},
        {"xml", "application/xml"},
        {"svg", "image/svg+xml"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"webp", "image/webp"},
        {"avif", "image/avif"},
        {"ico", "image/vnd.microsoft.icon"},
        {"bmp", "image/bmp"},
        {"woff", "font/woff"},
        {"woff2", "font/woff2"},
        {"ttf", "font/ttf"},
        {"otf", "font/otf"},
        {"pdf", "application/pdf"},
        {"wasm", "application/wasm"},
        {"mp4", "video/mp4"},
        {"webm", "video/webm"},
        {"ogv", "video/ogg"},
        {"mp3", "audio/mpeg"},
        {"ogg", "audio/ogg"},
        {"opus", "audio/ogg"},
        {"wav", "audio/wav"},
        {"flac", "audio/flac"},
        {"zip", "application/zip"},
        {"gz", "application/gzip"},
        {"tar", "application/x-tar"},
        {"xz", "application/x-xz"},
        {"webmanifest", "application/manifest+json"},
        {"xhtml", "application/xhtml+xml"},
        {"rss", "application/rss+xml"},
        {"atom", "application/atom+xml"},
    };
    u32 start = length;

    while (start > 0 && path[start - 1] != '.' && path[start - 1] != '/')
        start--;
    if (start > 0 && path[start - 1] == '.')
        for (u32 i = 0; i < sizeof types / sizeof types[0]; i++)
            if (text_same(path + start, length - start, types[i].extension))
                return types[i].type;
    return "application/octet-stream";
}

/* ---- prepared heads */

static void build_head(struct site_file *file) {
    struct text t = {file->head, HEAD_MOST, 0, false};

    text_put(&t, "HTTP/1.1 200 OK\r\nDate: ");
    t.used += HTTP_DATE;
    text_put(&t, "\r\n");
    file->validators_at = (u16)t.used;
    text_put(&t, "Last-Modified: ");
    http_date_write(t.at + t.used, file->modified);
    t.used += HTTP_DATE;
    text_put(&t, "\r\nETag: ");
    file->tag_at = (u16)t.used;
    text_put(&t, "\"");
    text_hex(&t, file->modified);
    text_put(&t, "-");
    text_hex(&t, file->size);
    text_put(&t, "\"");
    file->tag_length = (u16)(t.used - file->tag_at);
    text_put(&t, "\r\nCache-Control: no-cache\r\n");
    file->type_at = (u16)t.used;
    text_put(&t, "Accept-Ranges: bytes\r\nContent-Type: ");
    text_put(&t, type_of(file->path, file->path_length));
    text_put(&t, "\r\n");
    file->type_end = (u16)t.used;
    text_put(&t, "Content-Length: ");
    text_number(&t, file->size);
    text_put(&t, "\r\n\r\n");
    file->head_length = (u16)t.used;
    if (file->size <= SITE_SMALL) {
        memcpy(file->head + t.used, file->data, file->size);
        file->near = (const u8 *)file->head + t.used;
    }
}

/* ---- the index */

static u32 hash_of(const char *path, u32 length) {
    u64 hash = length, word;

    if (length < 8) {
        for (u32 i = 0; i < length; i++)
            hash = hash << 8 ^ (u8)path[i];
    } else {
        for (u32 i = 0; i < length - 8; i += 8) {
            memcpy(&word, path + i, 8);
            hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
            hash ^= hash >> 32;
        }
        memcpy(&word, path + length - 8, 8); /* some of them again */
        hash ^= word;
    }
    return (u32)((hash * 0x9e3779b97f4a7c15ull) >> 32);
}

/* Each file has a slot, and a folder's index a second one, as the folder. */
static u32 slots_for(u32 files) {
    u32 slots = 16;

    while (slots < files * 3)
        slots *= 2;
    return slots;
}

/* Where a file's head goes, and the file itself if it is small: within a page if that can be. Moves *at. */
static u64 place_head(u64 *at, u64 size) {
    u64 need = HEAD_MOST + (size <= SITE_SMALL ? size : 0);

    if (*at % PAGE + need > PAGE)
        *at = (*at + PAGE - 1) / PAGE * PAGE;
    u64 place = *at;
    *at += (need + 15) / 16 * 16;
    return place;
}

/* What the parts of the memory need: the index, the paths, and from a page's beginning on the heads. */
struct needs {
    u32 files;
    u64 paths, heads;
};

static struct needs needs_of(const u8 *archive, u64 bytes) {
    struct needs n = {0};
    struct member m;

    for (u64 offset = 0; next_file(archive, bytes, &offset, &m); n.files++) {
        n.paths += m.length;
        place_head(&n.heads, m.size);
    }
    return n;
}

static u64 heads_at(const struct needs *n) {
    u64 index = n->files * sizeof(struct site_file) + slots_for(n->files) * sizeof(struct site_slot);

    return (index + n->paths + PAGE - 1) / PAGE * PAGE;
}

u64 site_memory(const u8 *archive, u64 bytes) {
    struct needs n = needs_of(archive, bytes);

    return heads_at(&n) + n.heads;
}

/* The slot of a path, or the empty one where it would be. */
static inline struct site_slot *slot_of(const struct site *site, const char *path, u32 length) {
    u32 hash = hash_of(path, length), i = hash & site->last;

    for (; site->slot[i].file; i = (i + 1) & site->last) {
        const struct site_slot *s = &site->slot[i];
        if (s->hash == hash && s->length == length && text_equal(s->file->path, path, length))
            break;
    }
    return &site->slot[i];
}

struct site_file *site_find(const struct site *site, const char *path, u32 length) {
    return slot_of(site, path, length)->file;
}

struct site_file *site_find_plain(const struct site *site, const char *path, u32 length) {
    struct site_file *file = site_find(site, path, length);

    return file && file->plain ? file : NULL;
}

/* Is it found by the bytes of its path as they come in requests? */
static bool is_plain(const char *path, u32 length) {
    for (u32 i = 0; i < length; i++)
        if (path[i] == '%' || path[i] == '?' || path[i] == '#')
            return false;
    return length != 12 || memcmp(path, "machine.json", 12) != 0; /* that is the machine's */
}

static bool is_index(const char *path, u32 length) {
    return length >= INDEX_LENGTH && memcmp(path + length - INDEX_LENGTH, INDEX, INDEX_LENGTH) == 0 &&
           (length == INDEX_LENGTH || path[length - INDEX_LENGTH - 1] == '/');
}

static void put(struct site *site, struct site_file *file, u32 length) {
    *slot_of(site, file->path, length) = (struct site_slot){hash_of(file->path, length), length, file};
}

/* Enters a member, and its folder if it is the index of one. */
static struct site_file *enter(struct site *site, const struct member *m, const char *path) {
    struct site_file *file = site_find(site, m->path, m->length);

    if (!file || file->path_length != m->length) /* of that path there is none yet */
        file = &site->file[site->files++];
    *file = (struct site_file){.data = m->data, .size = m->size, .modified = m->modified, .path = path,
                               .path_length = (u16)m->length, .plain = is_plain(m->path, m->length),
                               .dated = ~0ull};
    put(site, file, m->length);
    if (is_index(m->path, m->length))
        put(site, file, m->length - INDEX_LENGTH);
    return file;
}

void site_build(struct site *site, const u8 *archive, u64 bytes, void *memory) {
    struct needs n = needs_of(archive, bytes);
    struct member m;
    u64 at = heads_at(&n);

    *site = (struct site){.last = slots_for(n.files) - 1, .file = memory};
    site->slot = (struct site_slot *)(site->file + n.files);
    memset(site->slot, 0, slots_for(n.files) * sizeof(struct site_slot));
    char *paths = (char *)(site->slot + slots_for(n.files));
    for (u64 offset = 0; next_file(archive, bytes, &offset, &m); paths += m.length) {
        memcpy(paths, m.path, m.length);
        struct site_file *file = enter(site, &m, paths);
        file->head = (char *)memory + place_head(&at, m.size);
        build_head(file);
    }
}

/* ---- paths */

static s32 hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Ends the segment that began at `start`, at `used`; returns where the next one begins. */
static u32 end_segment(const char *out, u32 start, u32 used) {
    u32 length = used - start;

    if (length == 2 && out[start] == '.' && out[start + 1] == '.') {
        if (start)
            for (start--; start > 0 && out[start - 1] != '/'; start--)
                ;
        return start;
    }
    return length == 1 && out[start] == '.' ? start : used;
}

s32 site_decode(char *out, const char *target, u32 length) {
    u32 used = 0, start = 0, i = 0;

    if (!length || target[0] != '/')
        return -1;
    for (i = 1; i <= length; i++) {
        char c = i < length ? target[i] : '?';
        bool ends = c == '?' || c == '#';
        if (c == '%') {
            s32 high = i + 2 < length ? hex_digit(target[i + 1]) : -1;
            s32 low = i + 2 < length ? hex_digit(target[i + 2]) : -1;
            if (high < 0 || low < 0 || (high | low) == 0)
                return -1;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (!ends && c != '/') {
            out[used++] = c;
            continue;
        }
        u32 kept = end_segment(out, start, used);
        bool segment = kept == used && used > start;
        used = kept;
        if (segment && !ends)
            out[used++] = '/';
        start = used;
        if (ends)
            break;
    }
    return (s32)used;
}
