/* The crash report: names the object and field that a stray access hit.
 *
 * Only async-signal-safe calls (write, gettid, sigaction). After the report the previous
 * handler is put back and the access faults again, so that exit status, core dump and
 * faulthandler's Python traceback stay the kernel's and Python's own.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static const slab_arena *arenas[SLAB_MAX_ARENAS];
static struct sigaction previous_segv, previous_bus;
static int installed, report_fd = -1;

typedef struct {
    char text[1024];
    size_t length;
} line;

static void put(line *out, const char *text) {
    while (*text && out->length < sizeof out->text)
        out->text[out->length++] = *text++;
}

static void put_number(line *out, uint64_t value, unsigned base) {
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (base == 16)
        put(out, "0x");
    while (n && out->length < sizeof out->text)
        out->text[out->length++] = digits[--n];
}

static void emit(const line *out) {
    ssize_t ignored = write(STDERR_FILENO, out->text, out->length);
    if (report_fd >= 0)
        ignored = write(report_fd, out->text, out->length);
    (void)ignored;
}

static const slab_arena *arena_of(const unsigned char *address) {
    for (size_t i = 0; i < SLAB_MAX_ARENAS; i++) {
        const slab_arena *arena = arenas[i];
        if (arena && arena->base && address >= arena->base &&
            address < arena->base + arena->reserved)
            return arena;
    }
    return NULL;
}

static void put_object(line *out, const slab_site *site, size_t index) {
    put(out, site->prefix);
    if (site->indexed) {
        put(out, "[");
        put_number(out, index, 10);
        put(out, "]");
    }
}

static void put_field(line *out, const slab_site *site, size_t within) {
    static const char codes[] = "BHIQbhiqs";
    static const unsigned sizes[] = {1, 2, 4, 8, 1, 2, 4, 8, 1};
    for (uint32_t i = 0; i < site->layout->nfields; i++) {
        const slab_field *field = &site->layout->fields[i];
        const char *code = strchr(codes, field->code);
        size_t size = code ? sizes[code - codes] * field->count : 0;
        if (within >= field->offset && within < field->offset + size) {
            put(out, ".");
            put(out, field->name);
            return;
        }
    }
    put(out, " (between its fields)");
}

/* Say what lies at an offset of the view: an object and field, or free space and its neighbour. */
static void put_target(line *out, const slab_arena *arena, size_t offset) {
    const slab_site *nearest = NULL;
    for (size_t i = 0; i < arena->nsites; i++) {
        const slab_site *site = &arena->sites[i];
        if (offset < site->offset)
            continue;
        nearest = site;
        size_t index = (offset - site->offset) / site->stride;
        size_t within = (offset - site->offset) % site->stride;
        if (index >= site->objects || within >= site->layout->size)
            continue;
        put(out, "mount_struct ");
        put_object(out, site, index);
        put_field(out, site, within);
        put(out, "\n  cache ");
        put(out, site->layout->name);
        put(out, ", byte ");
        put_number(out, within, 10);
        put(out, " of the object, page ");
        put_number(out, offset / (size_t)sysconf(_SC_PAGESIZE), 10);
        return;
    }
    put(out, "no object");
    if (nearest) {
        put(out, "; nearest below: ");
        put_object(out, nearest, nearest->objects - 1);
    }
}

static void report(int signo, const siginfo_t *info, const ucontext_t *context) {
    const unsigned char *address = info->si_addr;
    const slab_arena *arena = arena_of(address);
    line out = {.length = 0};
    put(&out, "\nwofs: stray access to write-once memory: ");
    if (address < arena->view || address >= arena->view + arena->size)
        put(&out, "guard page beside the arena");
    else
        put_target(&out, arena, (size_t)(address - arena->view));
    put(&out, "\n  address ");
    put_number(&out, (uintptr_t)address, 16);
#if defined(__x86_64__)
    put(&out, context->uc_mcontext.gregs[REG_ERR] & 2 ? ", a write" : ", a read");
    put(&out, ", by the code at ");
    put_number(&out, (uint64_t)context->uc_mcontext.gregs[REG_RIP], 16);
#else
    (void)context;
#endif
    put(&out, signo == SIGBUS ? ", SIGBUS" : ", SIGSEGV");
    put(&out, ", thread ");
    put_number(&out, (uint64_t)syscall(SYS_gettid), 10);
    put(&out, "\n  the memory was not changed; the process ends here\n");
    emit(&out);
}

static void on_fault(int signo, siginfo_t *info, void *context) {
    /* si_code <= 0: sent by kill(2), there is no address to name. */
    if (info->si_code > 0 && arena_of(info->si_addr))
        report(signo, info, context);
    sigaction(signo, signo == SIGBUS ? &previous_bus : &previous_segv, NULL);
    if (info->si_code <= 0)
        raise(signo);
}

int slab_report_install(void) {
    struct sigaction action;
    struct sigaction now;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSEGV, NULL, &now) < 0)
        return -1;
    if (installed && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault)
        return 0;
    if (sigaction(SIGSEGV, &action, &previous_segv) < 0 ||
        sigaction(SIGBUS, &action, &previous_bus) < 0)
        return -1;
    installed = 1;
    return 0;
}

int slab_report_to(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if (report_fd >= 0)
        close(report_fd);
    report_fd = fd;
    return 0;
}

int slab_report_add(const slab_arena *arena) {
    for (size_t i = 0; i < SLAB_MAX_ARENAS; i++)
        if (!arenas[i]) {
            arenas[i] = arena;
            return 0;
        }
    errno = ENFILE;
    return -1;
}

void slab_report_remove(const slab_arena *arena) {
    for (size_t i = 0; i < SLAB_MAX_ARENAS; i++)
        if (arenas[i] == arena)
            arenas[i] = NULL;
}
