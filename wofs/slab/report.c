/* The crash report: names the object and field that a stray access hit.
 *
 * Signal-safe calls only. After the report the handler that was there before is called once
 * (faulthandler prints its traceback), then the default action is put back and the access
 * faults again: exit status and core dump are the kernel's own, with the true cause.
 */
#define _GNU_SOURCE
#include "report.h"

#include "batch.h"
#include "text.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ROW 16
#define WAIT_MS 10
#define WAITS 500

static struct sigaction before_segv, before_bus;
static int report_fd = -1;
static volatile long reporter; /* the thread that reports, 0: none yet */

/* The report being written, for when that faults too. */
static slab_facts now;
static int now_json = -1;
static volatile enum { IDLE, LOOKING, WRITING } stage;

/* ---- what was hit */
static const slab_entry *entry_at(uintptr_t address) {
    const slab_registry *registry = slab_registry_view();
    for (size_t i = 0; registry && i < SLAB_MAX_ARENAS; i++) {
        const slab_entry *entry = &registry->arenas[i];
        uintptr_t base = (uintptr_t)entry->base;
        if (entry->uid && address >= base && address - base < entry->reserved)
            return entry;
    }
    return NULL;
}

static int in_registry(uintptr_t address) {
    const slab_region *region = slab_registry_region();
    uintptr_t base = (uintptr_t)region->base;
    return base && address >= base && address - base < region->reserved;
}

static void put_byte(slab_text *out, const slab_site *site) {
    slab_put(out, "byte ");
    if (strcmp(site->what, "header") == 0) {
        slab_put_number(out, site->byte + sizeof(slab_header));
        slab_put(out, " of its header");
    } else {
        slab_put_number(out, site->byte);
        slab_put(out, " of the object");
    }
}

/* Whether the site lies in an object, its header or its padding. */
static int is_named(const slab_site *site) {
    return site->field || strcmp(site->what, "header") == 0 || strcmp(site->what, "padding") == 0 ||
           strcmp(site->what, "kept object") == 0;
}

static void put_target(slab_text *out, const slab_entry *entry, const slab_site *site) {
    slab_put(out, "\n  hit       ");
    if (is_named(site)) {
        slab_put(out, entry->label);
        slab_put(out, " ");
        slab_put(out, site->name);
        if (strcmp(site->what, "kept object") == 0) {
            slab_put(out, " (kept metadata)");
        } else if (site->field) {
            slab_put(out, ".");
            slab_put(out, site->field->name);
        } else {
            slab_put(out, site->what[0] == 'h' ? " (its header)" : " (padding beside its fields)");
        }
        slab_put(out, "\n  offset    ");
        put_byte(out, site);
    } else {
        slab_put(out, "no object: ");
        slab_put(out, site->what);
        if (site->name[0]) {
            slab_put(out, "; the nearest below is ");
            slab_put(out, entry->label);
            slab_put(out, " ");
            slab_put(out, site->name);
        }
    }
    if (site->cache[0]) {
        slab_put(out, "\n  cache     ");
        slab_put(out, site->cache);
        slab_put(out, ", slot ");
        slab_put_number(out, site->slot);
    }
    slab_put(out, "\n  page      ");
    slab_put_number(out, site->page);
    slab_put(out, " of ");
    slab_put_number(out, entry->pages);
}

static void put_place(slab_text *out, const slab_facts *facts) {
    uintptr_t address = facts->address;
    const slab_entry *entry = facts->entry;
    if (!entry) {
        slab_put(out, "\n  hit       the slab's own tables (record layouts, arenas)");
        return;
    }
    if (!facts->site) {
        slab_put(out, "\n  hit       no object: guard page ");
        slab_put(out, address < (uintptr_t)entry->view ? "below" : "above");
        slab_put(out, " the arena, ");
        uintptr_t edge = (uintptr_t)entry->view + entry->size;
        uintptr_t distance = address < edge ? (uintptr_t)entry->view - address : address - edge + 1;
        slab_put_number(out, distance);
        slab_put(out, distance == 1 ? " byte outside" : " bytes outside");
    } else {
        put_target(out, entry, facts->site);
    }
    slab_put(out, "\n  arena     ");
    slab_put_number(out, entry->uid);
    slab_put(out, ", backend ");
    slab_put(out, entry->backend);
    slab_put(out, entry->sealed ? ", sealed" : ", not yet sealed");
}

/* ---- the memory around, as it is: a row of 16 bytes, and what its first byte belongs to */
static void put_row(slab_text *out, const slab_entry *entry, size_t row, size_t hit) {
    slab_site site;
    slab_put(out, hit / ROW == row / ROW ? "  > " : "    ");
    slab_put_hex(out, (uintptr_t)entry->view + row);
    for (size_t i = row; i < row + ROW; i++) {
        slab_put(out, i == hit ? "[" : i == hit + 1 ? "]" : " ");
        slab_put_byte(out, entry->view[i]);
    }
    slab_put(out, hit == row + ROW - 1 ? "] " : "  ");
    slab_site_at(entry, row, &site);
    if (is_named(&site)) {
        slab_put(out, site.name);
        slab_put(out, site.field ? "." : " ");
        slab_put(out, site.field ? site.field->name : site.what);
    } else {
        slab_put(out, site.what);
    }
    slab_put(out, "\n");
    slab_flush(out);
}

static void put_memory(slab_text *out, uintptr_t address) {
    const slab_entry *entry = entry_at(address);
    size_t offset = entry ? address - (uintptr_t)entry->view : 0;
    if (!entry || address < (uintptr_t)entry->view || offset >= entry->size)
        return;
    if (entry->kinds && !slab_store_mapped(entry, offset))
        return;
    size_t page = offset / slab_page() * slab_page(), row = offset / ROW * ROW;
    slab_put(out, "  memory around it:\n");
    for (size_t at = row < page + 3 * ROW ? page : row - 3 * ROW;
         at <= row + 3 * ROW && at < page + slab_page(); at += ROW)
        put_row(out, entry, at, offset);
}

/* ---- how */
static const char *kind_of(int signo, int code) {
    if (signo == SIGBUS)
        return code == BUS_ADRERR ? "SIGBUS, no memory behind the address (BUS_ADRERR)" : "SIGBUS";
    if (code == SEGV_ACCERR)
        return "SIGSEGV, access not permitted (SEGV_ACCERR)";
    return code == SEGV_MAPERR ? "SIGSEGV, nothing mapped (SEGV_MAPERR)" : "SIGSEGV";
}

static uintptr_t code_of(const ucontext_t *context) {
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

static const char *access_of(const ucontext_t *context) {
#if defined(__x86_64__)
    return context->uc_mcontext.gregs[REG_ERR] & 2 ? "a write" : "a read";
#else
    (void)context;
    return "an access";
#endif
}

static void put_circumstances(slab_text *out, const slab_facts *facts) {
    slab_put(out, "\n  address   ");
    slab_put_hex(out, facts->address);
    slab_put(out, ", ");
    slab_put(out, facts->access);
    slab_put(out, " by the code at ");
    slab_put_hex(out, facts->instruction);
    slab_put(out, "\n  fault     ");
    slab_put(out, kind_of(facts->signo, facts->code));
    slab_put(out, "\n  thread    ");
    slab_put_number(out, facts->tid);
    slab_put(out, " (");
    slab_put(out, facts->thread);
    slab_put(out, ") of process ");
    slab_put_number(out, facts->pid);
    slab_put(out, "\n  time      ");
    slab_put_number(out, facts->time);
    slab_put(out, "\n");
}

/* Who and when; `thread` has room for 16 bytes. */
static slab_facts circumstances(const char *kind, char *thread) {
    struct timespec now = {0, 0};
    memset(thread, 0, 16);
    (void)prctl(PR_GET_NAME, thread);
    clock_gettime(CLOCK_REALTIME, &now);
    return (slab_facts){.kind = kind,
                        .thread = thread,
                        .time = (uint64_t)now.tv_sec,
                        .pid = (uint64_t)getpid(),
                        .tid = (uint64_t)syscall(SYS_gettid)};
}

/* Find what was hit; `site` is filled in where it lies in an arena's memory. */
static void find(slab_facts *facts, slab_site *site) {
    const slab_entry *entry = entry_at(facts->address);
    facts->entry = entry;
    facts->target = entry ? "guard page" : "own tables";
    if (!entry || facts->address < (uintptr_t)entry->view ||
        facts->address - (uintptr_t)entry->view >= entry->size)
        return;
    slab_site_at(entry, facts->address - (uintptr_t)entry->view, site);
    facts->site = site;
    facts->target = site->what;
}

static void report(int signo, const siginfo_t *info, const ucontext_t *context) {
    static char thread[16];
    slab_site site;
    now = circumstances("stray access", thread);
    now.signo = signo;
    now.code = info->si_code;
    now.address = (uintptr_t)info->si_addr;
    now.access = access_of(context);
    now.instruction = code_of(context);
    stage = LOOKING;
    find(&now, &site);
    slab_text out = {.length = 0, .fds = {STDERR_FILENO, report_fd}};
    out.json_fd = now_json = slab_json_start(&now);
    slab_put(&out, "\nwofs: stray access to write-once memory");
    put_place(&out, &now);
    put_circumstances(&out, &now);
    slab_flush(&out);
    stage = WRITING;
    /* A truncated memory file has no bytes to show: reading them would fault again. */
    if (signo == SIGSEGV)
        put_memory(&out, (uintptr_t)info->si_addr);
    slab_put(&out, "  C stack:\n");
    slab_stack_dump(&out, code_of(context));
    slab_put(&out, "  Python ");
    slab_flush(&out);
    if (slab_python_dump(&out) < 0)
        slab_put(&out, "stack: not known here (faulthandler, where enabled, prints it next)\n");
    slab_put(&out, "  The memory was not changed; the process ends here.\n");
    slab_flush(&out);
    stage = IDLE;
    slab_json_end(out.json_fd);
}

/* The report itself met a fault, as where the memory is gone: end it with what is known. */
static void cut_short(uintptr_t address) {
    slab_text out = {.length = 0, .fds = {STDERR_FILENO, report_fd}, .json_fd = now_json};
    int headless = stage == LOOKING;
    stage = IDLE;
    if (headless) {
        now.entry = NULL;
        now.site = NULL;
        now.target = "unreadable";
        out.json_fd = slab_json_start(&now);
        slab_put(&out, "\nwofs: stray access to write-once memory\n  hit       no object: the memory "
                       "of an arena is no longer there");
        put_circumstances(&out, &now);
    }
    slab_put(&out, "  The report met a fault of its own at ");
    slab_put_hex(&out, address);
    slab_put(&out, "; the process ends here.\n");
    slab_flush(&out);
    slab_json_end(out.json_fd);
}

/* ---- the handler */
static const struct sigaction *before_of(int signo) {
    return signo == SIGBUS ? &before_bus : &before_segv;
}

static void call_before(int signo, siginfo_t *info, void *context) {
    const struct sigaction *before = before_of(signo);
    if (before->sa_flags & SA_SIGINFO)
        before->sa_sigaction(signo, info, context);
    else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN)
        before->sa_handler(signo);
}

static void default_action(int signo) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigaction(signo, &action, NULL);
}

/* Another thread reports: let it finish; it ends the process. */
static void wait_for_reporter(void) {
    struct timespec pause = {0, WAIT_MS * 1000000L};
    for (int i = 0; i < WAITS; i++)
        nanosleep(&pause, NULL);
}

/* A fault that is none of ours, or a signal that was sent: for the handler that was there before.
 * Ours stays where it is if that one returns, since the next fault may be ours. */
static void pass_on(int signo, siginfo_t *info, void *context, long me) {
    static volatile long passing; /* the thread in that handler, 0: none */
    const struct sigaction *before = before_of(signo);
    int sent = info->si_code <= 0, again = sent && passing == me; /* its raise() */
    int is_function = before->sa_flags & SA_SIGINFO ||
                      (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN);
    if (is_function && !again) {
        passing = me;
        call_before(signo, info, context);
        passing = 0;
    } else if (is_function || before->sa_handler == SIG_DFL || !sent) {
        default_action(signo);
        if (sent)
            raise(signo);
    }
}

static void on_fault(int signo, siginfo_t *info, void *context) {
    long me = syscall(SYS_gettid), nobody = 0;
    uintptr_t address = (uintptr_t)info->si_addr;
    /* si_code <= 0: sent by kill(2) or raise(3), there is no address to name. */
    int ours = info->si_code > 0 && (entry_at(address) || in_registry(address));
    if (reporter == me) { /* raise() of the handler called below, or a fault in the report */
        if (stage != IDLE)
            cut_short(address);
        default_action(signo);
        return;
    }
    if (!ours) {
        pass_on(signo, info, context, me);
        return;
    }
    if (!__atomic_compare_exchange_n(&reporter, &nobody, me, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        wait_for_reporter();
        default_action(signo);
        return;
    }
    report(signo, info, context);
    call_before(signo, info, context);
    default_action(signo);
}

static int install(int signo, struct sigaction *before) {
    struct sigaction action, now;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    if (sigaction(signo, NULL, &now) < 0)
        return -1;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault)
        return 0;
    *before = now;
    return sigaction(signo, &action, NULL);
}

int slab_report_install(void) {
    slab_stack_prepare();
    return install(SIGSEGV, &before_segv) < 0 ? -1 : install(SIGBUS, &before_bus);
}

/* ---- memory that changed although it was protected */
typedef void (*teller)(void *, size_t offset);
typedef size_t (*verifier)(void *owner, teller tell, void *context);

typedef struct {
    slab_text *out;
    const slab_entry *entry;
} changed;

static void put_changed(void *context, size_t offset) {
    const changed *state = context;
    slab_site site;
    slab_site_at(state->entry, offset, &site);
    slab_put(state->out, "\n  changed   ");
    slab_put(state->out, state->entry->label);
    slab_put(state->out, " ");
    slab_put(state->out, site.name[0] ? site.name : site.what);
    slab_put(state->out, ", cache ");
    slab_put(state->out, site.cache);
    slab_put(state->out, ", page ");
    slab_put_number(state->out, site.page);
    slab_put(state->out, ", slot ");
    slab_put_number(state->out, site.slot);
    slab_flush(state->out);
}

static void keep_first(void *context, size_t offset) {
    slab_facts *facts = context;
    if (!facts->address)
        facts->address = (uintptr_t)facts->entry->view + offset + sizeof(slab_header);
}

/* Compare an arena or a store with what was published in it. */
static void enforce(uint32_t slot, verifier verify, void *owner) {
    char thread[16];
    slab_site site;
    slab_facts facts = circumstances("changed memory", thread);
    facts.entry = &slab_registry_view()->arenas[slot];
    if (verify(owner, keep_first, &facts) == 0)
        return;
    find(&facts, &site);
    slab_text out = {.length = 0, .fds = {STDERR_FILENO, report_fd}};
    out.json_fd = slab_json_start(&facts);
    slab_put(&out, "\nwofs: write-once memory is not what was published: a write by the kernel, by "
                   "a debugger or by failing memory");
    changed state = {&out, facts.entry};
    verify(owner, put_changed, &state);
    slab_put(&out, "\n  backend   ");
    slab_put(&out, state.entry->backend);
    slab_put(&out, "\n  process   ");
    slab_put_number(&out, facts.pid);
    slab_put(&out, "\n  time      ");
    slab_put_number(&out, facts.time);
    slab_put(&out, "\n  Nothing read from it can be trusted; the process ends here.\n");
    slab_flush(&out);
    slab_json_end(out.json_fd);
    default_action(SIGSEGV);
    raise(SIGSEGV);
}

static size_t verify_arena(void *owner, teller tell, void *context) {
    return slab_arena_verify(owner, tell, context);
}

static size_t verify_store(void *owner, teller tell, void *context) {
    return slab_store_verify(owner, tell, context);
}

void slab_report_enforce(slab_arena *arena) {
    enforce(arena->slot, verify_arena, arena);
}

void slab_report_enforce_store(slab_store *store) {
    enforce(store->entry, verify_store, store);
}

int slab_report_to(const char *path) {
    int fd = slab_open_report(path);
    if (fd < 0)
        return -1;
    if (report_fd >= 0)
        close(report_fd);
    report_fd = fd;
    return fd;
}
