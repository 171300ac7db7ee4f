/* The crash report as JSON: one object a line, the facts first, then the text as a member.
 *
 * Signal-safe as report.c. The place is made ready beforehand: a file that is open already, or a
 * folder in which a crash makes a file of its own, named by time and process.
 */
#define _GNU_SOURCE
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_fd = -1;
static char folder[3072];

int slab_open_report(const char *path) {
    /* A pipe that nobody reads would make the opening wait, and a full one the crash. */
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    return open(path, flags, 0600);
}

int slab_json_to(const char *path, int is_folder) {
    if (is_folder && strlen(path) >= sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = is_folder ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : slab_open_report(path);
    if (fd < 0)
        return -1;
    if (file_fd >= 0)
        close(file_fd);
    file_fd = is_folder ? -1 : fd;
    folder[0] = 0;
    if (is_folder) {
        strcpy(folder, path);
        close(fd);
    }
    return 0;
}

static void append(char *path, size_t room, const char *text) {
    size_t at = strlen(path);
    while (*text && at + 1 < room)
        path[at++] = *text++;
    path[at] = 0;
}

static void append_number(char *path, size_t room, uint64_t value) {
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    append(path, room, digits + at);
}

static int open_place(const slab_facts *facts) {
    char path[sizeof folder + 64] = "";
    if (!folder[0])
        return file_fd;
    append(path, sizeof path, folder);
    append(path, sizeof path, "/");
    append_number(path, sizeof path, facts->time);
    append(path, sizeof path, "-");
    append_number(path, sizeof path, facts->pid);
    append(path, sizeof path, ".json");
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* ---- members */
static void put_word(slab_text *out, const char *name, const char *value) {
    slab_put(out, "\"");
    slab_put(out, name);
    slab_put(out, "\": ");
    if (!value) {
        slab_put(out, "null, ");
        return;
    }
    slab_put(out, "\"");
    slab_put_escaped(out, value, strlen(value));
    slab_put(out, "\", ");
}

static void put_number(slab_text *out, const char *name, uint64_t value) {
    slab_put(out, "\"");
    slab_put(out, name);
    slab_put(out, "\": ");
    slab_put_number(out, value);
    slab_put(out, ", ");
}

static void put_address(slab_text *out, const char *name, uintptr_t value) {
    slab_put(out, "\"");
    slab_put(out, name);
    slab_put(out, "\": \"");
    slab_put_hex(out, value);
    slab_put(out, "\", ");
}

static void put_site(slab_text *out, const slab_facts *facts) {
    const slab_site *site = facts->site;
    put_word(out, "target", facts->target);
    put_word(out, "object", site && site->name[0] ? site->name : NULL);
    put_word(out, "field", site && site->field ? site->field->name : NULL);
    put_word(out, "cache", site && site->cache[0] ? site->cache : NULL);
    if (site) {
        put_number(out, "page", site->page);
        put_number(out, "slot", site->slot);
    }
    if (facts->entry) {
        put_word(out, "label", facts->entry->label);
        put_number(out, "arena", facts->entry->uid);
        put_word(out, "backend", facts->entry->backend);
        slab_put(out, facts->entry->sealed ? "\"sealed\": true, " : "\"sealed\": false, ");
    }
}

int slab_json_start(const slab_facts *facts) {
    slab_text out = {.length = 0, .fds = {open_place(facts), -1}, .json_fd = -1};
    if (out.fds[0] < 0)
        return -1;
    slab_put(&out, "{");
    put_word(&out, "kind", facts->kind);
    put_number(&out, "time", facts->time);
    put_number(&out, "pid", facts->pid);
    put_number(&out, "tid", facts->tid);
    put_word(&out, "thread", facts->thread);
    if (facts->signo) {
        put_word(&out, "signal", facts->signo == SIGBUS ? "SIGBUS" : "SIGSEGV");
        put_number(&out, "code", (uint64_t)facts->code);
        put_address(&out, "address", facts->address);
        put_word(&out, "access", strchr(facts->access, ' ') + 1); /* of "a write" */
        put_address(&out, "instruction", facts->instruction);
    }
    put_site(&out, facts);
    slab_put(&out, "\"text\": \"");
    slab_flush(&out);
    return out.fds[0];
}

void slab_json_end(int fd) {
    slab_text out = {.length = 0, .fds = {fd, -1}, .json_fd = -1};
    slab_put(&out, "\"}\n");
    slab_flush(&out);
}
