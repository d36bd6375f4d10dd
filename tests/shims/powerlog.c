/* Preloaded into a process, it writes down everything that changes files below POWERLOG_ROOT, and what was written to
 * POWERLOG_ACK, in order: so that a test can build what a disk may hold after a power cut at any moment.
 *
 *   cc -O2 -shared -fPIC -o powerlog.so powerlog.c -ldl
 *   POWERLOG_ROOT=/dir POWERLOG_ACK=/file POWERLOG_FILE=/log LD_PRELOAD=./powerlog.so COMMAND
 *
 * A record is a line "OP OFFSET LENGTH PATH[\tPATH]" and LENGTH bytes. Memory-mapped writes are not seen: SQLite's are in its
 * -shm file only, which it makes anew.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *root, *ack;
static int out = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("POWERLOG_FILE");
    root = getenv("POWERLOG_ROOT");
    ack = getenv("POWERLOG_ACK");
    if (file && root && ack)
        out = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int counts(const char *path)
{
    size_t length = root ? strlen(root) : 0;
    return out >= 0 && ((!strncmp(path, root, length) && path[length] == '/') || !strcmp(path, ack));
}

static int path_of(int descriptor, char *path)
{
    char link[64];
    ssize_t length;
    if (out < 0 || descriptor == out)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return counts(path);
}

static void record(const char *op, long long offset, const void *data, size_t length, const char *path, const char *other)
{
    char head[2 * PATH_MAX + 64];
    int size = snprintf(head, sizeof head, "%s %lld %zu %s%s%s\n", op, offset, length, path, other ? "\t" : "", other ? other : "");
    pthread_mutex_lock(&turn);
    syscall(SYS_write, out, head, size);
    if (length)
        syscall(SYS_write, out, data, length);
    pthread_mutex_unlock(&turn);
}

static void absolute(const char *path, char *full)
{
    if (path[0] == '/' || !getcwd(full, PATH_MAX)) {
        snprintf(full, PATH_MAX, "%s", path);
        return;
    }
    size_t length = strlen(full);
    snprintf(full + length, PATH_MAX - length, "/%s", path);
}

static int opened(int directory, const char *path, int flags, mode_t mode)
{
    int descriptor = syscall(SYS_openat, directory, path, flags | O_LARGEFILE, mode);
    char full[PATH_MAX];
    if (descriptor >= 0 && (flags & (O_CREAT | O_TRUNC)) && path_of(descriptor, full))
        record(flags & O_TRUNC ? "empty" : "open", 0, NULL, 0, full, NULL);
    return descriptor;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = va_arg(more, int); \
        va_end(more); \
        return opened(AT_FDCWD, path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
    int name(int directory, const char *path, int flags, ...) \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = va_arg(more, int); \
        va_end(more); \
        return opened(directory, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t write(int descriptor, const void *data, size_t length)
{
    char path[PATH_MAX];
    off_t offset = path_of(descriptor, path) ? lseek(descriptor, 0, strcmp(path, ack) ? SEEK_CUR : SEEK_END) : -1;
    ssize_t written = syscall(SYS_write, descriptor, data, length);
    if (written > 0 && offset >= 0)
        record("write", offset, data, written, path, NULL);
    return written;
}

static ssize_t write_at(int descriptor, const void *data, size_t length, off_t offset)
{
    char path[PATH_MAX];
    ssize_t written = syscall(SYS_pwrite64, descriptor, data, length, offset);
    if (written > 0 && path_of(descriptor, path))
        record("write", offset, data, written, path, NULL);
    return written;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) { return write_at(descriptor, data, length, offset); }
ssize_t pwrite64(int descriptor, const void *data, size_t length, off_t offset) { return write_at(descriptor, data, length, offset); }

static int cut(int descriptor, off_t length)
{
    char path[PATH_MAX];
    int failed = syscall(SYS_ftruncate, descriptor, length);
    if (!failed && path_of(descriptor, path))
        record("truncate", length, NULL, 0, path, NULL);
    return failed;
}

int ftruncate(int descriptor, off_t length) { return cut(descriptor, length); }
int ftruncate64(int descriptor, off_t length) { return cut(descriptor, length); }

static int synced(int descriptor, long call)
{
    char path[PATH_MAX];
    int failed = syscall(call, descriptor);
    if (!failed && path_of(descriptor, path))
        record("sync", 0, NULL, 0, path, NULL);
    return failed;
}

int fsync(int descriptor) { return synced(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return synced(descriptor, SYS_fdatasync); }

int rename(const char *from, const char *to)
{
    char first[PATH_MAX], second[PATH_MAX];
    int failed = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    absolute(from, first);
    absolute(to, second);
    if (!failed && counts(second))
        record("rename", 0, NULL, 0, first, second);
    return failed;
}

int unlink(const char *path)
{
    char full[PATH_MAX];
    int failed = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    absolute(path, full);
    if (!failed && counts(full))
        record("unlink", 0, NULL, 0, full, NULL);
    return failed;
}
