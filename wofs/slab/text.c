#include "text.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { PATIENCE_MS = 2000 };

void slab_put(slab_text *out, const char *text) {
    while (*text) {
        if (out->length == sizeof out->text)
            slab_flush(out);
        out->text[out->length++] = *text++;
    }
}

static void put_base(slab_text *out, uint64_t value, unsigned base) {
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do
        digits[--at] = "0123456789abcdef"[value % base];
    while (value /= base);
    slab_put(out, digits + at);
}

void slab_put_number(slab_text *out, uint64_t value) {
    put_base(out, value, 10);
}

void slab_put_hex(slab_text *out, uint64_t value) {
    slab_put(out, "0x");
    put_base(out, value, 16);
}

void slab_put_byte(slab_text *out, unsigned char value) {
    char digits[3] = {"0123456789abcdef"[value >> 4], "0123456789abcdef"[value & 15], 0};
    slab_put(out, digits);
}

/* Whether a descriptor takes what is written, and soon. One that did not once, a pipe full to the
 * brim that nobody empties, is not asked again: the process is to end. A page is free in a pipe
 * that does, which is more than is written at once. */
static int listens(int fd) {
    static volatile int deaf = -1;
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    if (fd == deaf)
        return 0;
    if (poll(&one, 1, PATIENCE_MS) == 0)
        deaf = fd;
    return fd != deaf;
}

static void write_all(int fd, const char *text, size_t length) {
    while (fd >= 0 && length && listens(fd)) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody listens: the process ends all the same */
        text += n;
        length -= (size_t)n;
    }
}

void slab_put_escaped(slab_text *out, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        char one[2] = {text[i], 0};
        if (text[i] == '"' || text[i] == '\\') {
            slab_put(out, "\\");
            slab_put(out, one);
        } else if ((unsigned char)text[i] < ' ') {
            slab_put(out, "\\u00");
            slab_put_byte(out, (unsigned char)text[i]);
        } else {
            slab_put(out, one);
        }
    }
}

void slab_flush(slab_text *out) {
    if (out->json_fd >= 0) {
        slab_text json = {.length = 0, .fds = {out->json_fd, -1}, .json_fd = -1};
        slab_put_escaped(&json, out->text, out->length);
        slab_flush(&json);
    }
    for (size_t i = 0; i < sizeof out->fds / sizeof *out->fds; i++)
        write_all(out->fds[i], out->text, out->length);
    out->length = 0;
}
