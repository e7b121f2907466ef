/*
 * The layer below the real code: loaded before libc, it sees every call by which a process changes what is below one folder.
 *
 * It writes them down in order and with their data (a disk is rebuilt from that: disk_model.py), counts them, and at one of them
 * it can say that the disk is full, that it is read-only, or end the process. What it cannot follow (shared writable mappings,
 * fallocate) it writes down as such, and the reader refuses the log. Steered by the exported functions, see recording.py.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#define _FORTIFY_SOURCE 0
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, TRUNCATE, WRITE, FSYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, SYMLINK, CHMOD, MARK, SYNC_ALL, UNKNOWN, UTIME };
enum { NOTHING, FULL, FULL_SHORT, READ_ONLY, KILL };

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))real(#name))

static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static pid_t owner;
static int mode = NOTHING;
static long fail_at, counted;
static int fell; /* the fault has begun */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    return found;
}

/* A child that was forked is another process: its own changes are seen once it says so itself. */
static int active(void) { return root_length != 0 && getpid() == owner; }

static int inside(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* The name of an open file or folder as it is now; 0 where it has none below the root. */
static int name_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length <= 0) return 0;
    out[length] = 0;
    return inside(out);
}

/* Folder and name as one absolute path, without following the last part; 0 where it is not below the root. */
static int resolve(int folder, const char *path, char *out) {
    if (path == NULL) return 0;
    char joined[2 * PATH_MAX];
    if (path[0] == '/') {
        snprintf(joined, sizeof joined, "%s", path);
    } else {
        char base[PATH_MAX];
        if (folder == AT_FDCWD) {
            if (getcwd(base, sizeof base) == NULL) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length <= 0) return 0;
            base[length] = 0;
        }
        snprintf(joined, sizeof joined, "%s/%s", base, path);
    }
    if (strlen(joined) >= PATH_MAX) return 0;
    strcpy(out, joined);
    return inside(out);
}

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t done = syscall(SYS_write, log_fd, at, length);
        if (done <= 0) abort();
        at += done;
        length -= (size_t)done;
    }
}

struct head {
    uint32_t magic, kind;
    uint64_t inode;
    int64_t offset;
    uint32_t mode, path_length, other_length, spare;
    uint64_t data_length;
};

static void note(int kind, uint64_t inode, int64_t offset, uint32_t bits, const char *path, const char *other, const void *data,
                 size_t length) {
    if (log_fd < 0) return;
    int before = errno;
    struct head head = {0x524f4f4b, (uint32_t)kind, inode, offset, bits, (uint32_t)strlen(path), (uint32_t)strlen(other), 0, length};
    put(&head, sizeof head);
    put(path, head.path_length);
    put(other, head.other_length);
    put(data, length);
    errno = before;
}

static int takes_room(int kind) { return kind == CREATE || kind == WRITE || kind == MKDIR || kind == LINK || kind == SYMLINK; }

/* Called before each change: 0 to go on, -1 with errno set, 1 to write half of it. */
static int gate(int kind) {
    long number = ++counted;
    if (mode == NOTHING) return 0;
    if (mode == KILL) {
        if (number == fail_at) kill(getpid(), SIGKILL);
        return 0;
    }
    if (number < fail_at && !fell) return 0;
    if (mode == READ_ONLY) {
        if (kind == FSYNC) return 0;
        fell = 1;
        errno = EROFS;
        return -1;
    }
    if (!takes_room(kind)) return 0;
    int first = !fell;
    fell = 1;
    if (first && mode == FULL_SHORT && kind == WRITE) return 1;
    errno = ENOSPC;
    return -1;
}

/* -- steering --------------------------------------------------------------------------------------------------------------- */

EXPORT int rookery_watch(const char *folder, const char *log_file) {
    pthread_mutex_lock(&lock);
    owner = getpid();
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    if (log_fd >= 0) syscall(SYS_close, log_fd);
    log_fd = -1;
    if (log_file[0]) {
        int low = (int)syscall(SYS_openat, AT_FDCWD, log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        log_fd = low < 0 ? -1 : (int)syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 900);
        if (low >= 0) syscall(SYS_close, low);
    }
    counted = 0;
    mode = NOTHING;
    int failed = log_file[0] && log_fd < 0;
    pthread_mutex_unlock(&lock);
    return failed;
}

EXPORT void rookery_fault(int what, long at) {
    pthread_mutex_lock(&lock);
    mode = what;
    fail_at = at;
    counted = 0;
    fell = 0;
    pthread_mutex_unlock(&lock);
}

EXPORT int rookery_fell(void) { return fell; }
EXPORT long rookery_counted(void) { return counted; }

EXPORT void rookery_mark(const char *text) {
    pthread_mutex_lock(&lock);
    note(MARK, 0, 0, 0, text, "", "", 0);
    pthread_mutex_unlock(&lock);
}

/* -- files ------------------------------------------------------------------------------------------------------------------ */

static int opened(int folder, const char *path, int flags, mode_t bits) {
    int (*openat_real)(int, const char *, int, ...) = real("openat64");
    char full[PATH_MAX], now[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (!active() || (flags & O_TMPFILE) == O_TMPFILE || !writes || !resolve(folder, path, full)) return openat_real(folder, path, flags, bits);
    pthread_mutex_lock(&lock);
    struct stat found;
    int there = fstatat(AT_FDCWD, full, &found, 0) == 0;
    int fd = -1;
    int kind = !there && (flags & O_CREAT) ? CREATE : TRUNCATE;
    /* Opening what is there is a change only where it is cut off, or where the disk cannot be written at all. */
    int changes = kind == CREATE || (there && (flags & O_TRUNC) && found.st_size > 0) || mode == READ_ONLY;
    if (changes && !(there && (flags & O_EXCL)) && gate(kind) != 0) goto out;
    fd = openat_real(folder, path, flags, bits);
    if (fd < 0 || fstat(fd, &found) != 0 || !name_of(fd, now)) goto out;
    if (kind == CREATE) note(CREATE, found.st_ino, 0, found.st_mode, now, "", "", 0);
    else if (changes && (flags & O_TRUNC)) note(TRUNCATE, found.st_ino, 0, 0, now, "", "", 0);
out:
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN_BODY(folder)                                                                                                         \
    mode_t bits = 0;                                                                                                              \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                                          \
        va_list list;                                                                                                             \
        va_start(list, flags);                                                                                                    \
        bits = va_arg(list, mode_t);                                                                                              \
        va_end(list);                                                                                                             \
    }                                                                                                                             \
    return opened(folder, path, flags, bits);

EXPORT int open(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD) }
EXPORT int open64(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD) }
EXPORT int openat(int folder, const char *path, int flags, ...) { OPEN_BODY(folder) }
EXPORT int openat64(int folder, const char *path, int flags, ...) { OPEN_BODY(folder) }
EXPORT int creat(const char *path, mode_t bits) { return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, bits); }
EXPORT int creat64(const char *path, mode_t bits) { return creat(path, bits); }

/* offset < 0: where the file stands. */
static ssize_t written(int fd, const void *data, size_t length, off_t offset) {
    ssize_t (*write_real)(int, const void *, size_t) = real("write");
    ssize_t (*pwrite_real)(int, const void *, size_t, off_t) = real("pwrite64");
    char name[PATH_MAX];
    struct stat found;
    if (!active() || fd == log_fd || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode) || !name_of(fd, name))
        return offset < 0 ? write_real(fd, data, length) : pwrite_real(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    int gated = gate(WRITE);
    if (gated >= 0) {
        if (gated > 0 && length > 1) length /= 2;
        done = offset < 0 ? write_real(fd, data, length) : pwrite_real(fd, data, length, offset);
        if (done > 0) {
            off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset;
            note(WRITE, found.st_ino, at, 0, name, "", data, (size_t)done);
        }
    }
    pthread_mutex_unlock(&lock);
    return done;
}

EXPORT ssize_t write(int fd, const void *data, size_t length) { return written(fd, data, length, -1); }
EXPORT ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return written(fd, data, length, offset); }
EXPORT ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return written(fd, data, length, offset); }

static ssize_t gathered(int fd, const struct iovec *parts, int count, off_t offset) {
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = written(fd, parts[i].iov_base, parts[i].iov_len, offset < 0 ? -1 : offset + total);
        if (done < 0) return total > 0 ? total : -1;
        total += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return total;
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) { return gathered(fd, parts, count, -1); }
EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return gathered(fd, parts, count, offset); }
EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return gathered(fd, parts, count, offset); }

/* Copies inside the kernel, done as reads and writes where the target is below the root: their data is seen then. */
static ssize_t copied(int in, off64_t *in_at, int out, off64_t *out_at, size_t length) {
    char piece[65536];
    size_t want = length < sizeof piece ? length : sizeof piece;
    ssize_t got = in_at ? pread(in, piece, want, *in_at) : read(in, piece, want);
    if (got <= 0) return got;
    ssize_t done = written(out, piece, (size_t)got, out_at ? *out_at : -1);
    ssize_t moved = done < 0 ? 0 : done;
    if (in_at) *in_at += moved;
    else if (moved < got) lseek(in, moved - got, SEEK_CUR);
    if (out_at) *out_at += moved;
    return done;
}

EXPORT ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t length, unsigned int flags) {
    char name[PATH_MAX];
    if (active() && name_of(out, name)) return copied(in, in_at, out, out_at, length);
    return REAL(copy_file_range)(in, in_at, out, out_at, length, flags);
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *in_at, size_t length) {
    char name[PATH_MAX];
    if (active() && name_of(out, name)) return copied(in, in_at, out, NULL, length);
    return REAL(sendfile64)(out, in, in_at, length);
}
EXPORT ssize_t sendfile(int out, int in, off_t *in_at, size_t length) { return sendfile64(out, in, in_at, length); }

static int resized(int fd, off_t length) {
    int (*ftruncate_real)(int, off_t) = real("ftruncate64");
    char name[PATH_MAX];
    struct stat found;
    if (!active() || fstat(fd, &found) != 0 || !name_of(fd, name)) return ftruncate_real(fd, length);
    pthread_mutex_lock(&lock);
    int result = gate(length > found.st_size ? WRITE : TRUNCATE) != 0 ? -1 : ftruncate_real(fd, length);
    if (result == 0) note(TRUNCATE, found.st_ino, length, 0, name, "", "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int ftruncate(int fd, off_t length) { return resized(fd, length); }
EXPORT int ftruncate64(int fd, off64_t length) { return resized(fd, length); }

static int resized_by_name(const char *path, off_t length) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int result = resized(fd, length);
    close(fd);
    return result;
}

EXPORT int truncate(const char *path, off_t length) { return resized_by_name(path, length); }
EXPORT int truncate64(const char *path, off64_t length) { return resized_by_name(path, length); }

static int synced(int fd, const char *call) {
    int (*sync_real)(int) = real(call);
    char name[PATH_MAX];
    struct stat found;
    if (!active() || fstat(fd, &found) != 0 || !name_of(fd, name)) return sync_real(fd);
    pthread_mutex_lock(&lock);
    int result = gate(FSYNC) != 0 ? -1 : 0; /* the log says what is durable: the real disk need not be waited for */
    if (result == 0) note(FSYNC, found.st_ino, 0, found.st_mode, name, call, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int fsync(int fd) { return synced(fd, "fsync"); }
EXPORT int fdatasync(int fd) { return synced(fd, "fdatasync"); }

EXPORT void sync(void) {
    if (!active()) {
        REAL(sync)();
        return;
    }
    pthread_mutex_lock(&lock);
    note(SYNC_ALL, 0, 0, 0, root, "", "", 0);
    pthread_mutex_unlock(&lock);
}

EXPORT int syncfs(int fd) {
    if (!active()) return REAL(syncfs)(fd);
    sync();
    return 0;
}

/* A hint without any promise of durability (its man page says so): it leaves no trace. */
EXPORT int sync_file_range(int fd, off64_t offset, off64_t length, unsigned int flags) {
    return REAL(sync_file_range)(fd, offset, length, flags);
}

static int unknown(int fd, const char *call) {
    char name[PATH_MAX];
    if (active() && name_of(fd, name)) {
        pthread_mutex_lock(&lock);
        int stopped = gate(WRITE) < 0;
        note(UNKNOWN, 0, 0, 0, name, call, "", 0);
        pthread_mutex_unlock(&lock);
        if (stopped) return -1;
    }
    return 0;
}

EXPORT int fallocate(int fd, int how, off_t offset, off_t length) {
    return unknown(fd, "fallocate") ? -1 : REAL(fallocate)(fd, how, offset, length);
}
EXPORT int posix_fallocate(int fd, off_t offset, off_t length) {
    return unknown(fd, "posix_fallocate") ? ENOSPC : REAL(posix_fallocate)(fd, offset, length);
}
EXPORT void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE) && unknown(fd, "mmap")) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}
EXPORT void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mmap(at, length, protection, flags, fd, offset);
}

/* -- names ------------------------------------------------------------------------------------------------------------------ */

#define NAMED(kind, condition, call, bits, path1, path2)                                                                          \
    char one[PATH_MAX];                                                                                                           \
    __attribute__((unused)) char two[PATH_MAX];                                                                                   \
    if (!active() || !(condition)) return call;                                                                                   \
    pthread_mutex_lock(&lock);                                                                                                    \
    int result = gate(kind) != 0 ? -1 : call;                                                                                     \
    if (result == 0) note(kind, 0, 0, bits, path1, path2, "", 0);                                                                 \
    pthread_mutex_unlock(&lock);                                                                                                  \
    return result;

EXPORT int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
    NAMED(RENAME, resolve(from_folder, from, one) | resolve(to_folder, to, two),
          (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags), flags, one, two)
}
EXPORT int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}
EXPORT int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

EXPORT int unlinkat(int folder, const char *path, int flags) {
    NAMED(flags & AT_REMOVEDIR ? RMDIR : UNLINK, resolve(folder, path, one), (int)syscall(SYS_unlinkat, folder, path, flags), 0, one, "")
}
EXPORT int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
EXPORT int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
EXPORT int remove(const char *path) {
    struct stat found;
    return lstat(path, &found) == 0 && S_ISDIR(found.st_mode) ? rmdir(path) : unlink(path);
}

EXPORT int mkdirat(int folder, const char *path, mode_t bits) {
    mode_t mask = umask(0); /* no call only asks for it */
    umask(mask);
    NAMED(MKDIR, resolve(folder, path, one), (int)syscall(SYS_mkdirat, folder, path, bits), bits & ~mask, one, "")
}
EXPORT int mkdir(const char *path, mode_t bits) { return mkdirat(AT_FDCWD, path, bits); }

EXPORT int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    NAMED(LINK, resolve(from_folder, from, one) | resolve(to_folder, to, two),
          (int)syscall(SYS_linkat, from_folder, from, to_folder, to, flags), 0, one, two)
}
EXPORT int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

EXPORT int symlinkat(const char *target, int folder, const char *path) {
    NAMED(SYMLINK, resolve(folder, path, one), (int)syscall(SYS_symlinkat, target, folder, path), 0, one, target)
}
EXPORT int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

EXPORT int fchmodat(int folder, const char *path, mode_t bits, int flags) {
    (void)flags;
    NAMED(CHMOD, resolve(folder, path, one), (int)syscall(SYS_fchmodat, folder, path, bits), bits, one, "")
}
EXPORT int chmod(const char *path, mode_t bits) { return fchmodat(AT_FDCWD, path, bits, 0); }
EXPORT int fchmod(int fd, mode_t bits) {
    NAMED(CHMOD, name_of(fd, one), (int)syscall(SYS_fchmod, fd, bits), bits, one, "")
}

/* Times are no part of the rebuilt disk; on a read-only one they cannot be set either. */
EXPORT int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    char full[PATH_MAX];
    if (active() && mode == READ_ONLY && resolve(folder, path, full)) {
        pthread_mutex_lock(&lock);
        int stopped = gate(UTIME) != 0;
        pthread_mutex_unlock(&lock);
        if (stopped) return -1;
    }
    return (int)syscall(SYS_utimensat, folder, path, times, flags);
}
