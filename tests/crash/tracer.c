/* Preloaded into a process under test: records what it writes below one folder, and can fail or kill at one call.
 *
 * Nothing happens until tracer_start() is called (from Python through ctypes, after the imports), so an interpreter
 * that merely has this library loaded runs as always. A record is: op u8, a i64, b i64, n1 u32, n2 u32 (little-endian,
 * packed), then n1 and n2 bytes. The lock is held across the real call: the trace has the order of the effects.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, CLOSE, RENAME, MKDIR, UNLINK, MARK };
enum { NONE, FAIL_IO, FAIL_SPACE, FAIL_SHORT, KILL_BEFORE, KILL_AFTER, FAIL_AFTER, FAIL_INTERRUPTED };
enum { FDS = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[4096];
static size_t root_length;
static int trace_fd = -1, mark_fd = -1, fault;
static long operations, fault_at;
static unsigned char traced[FDS];

#define REAL(name, type, ...) \
    static type (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void put(int fd, const void *bytes, size_t size)
{
    REAL(write, ssize_t, int, const void *, size_t);
    const char *at = bytes;
    while (size) {
        ssize_t done = real_write(fd, at, size);
        if (done <= 0) _exit(99);
        at += done;
        size -= (size_t)done;
    }
}

static void record(uint8_t op, int64_t a, int64_t b, const void *one, uint32_t n1, const void *two, uint32_t n2)
{
    unsigned char header[25];
    if (trace_fd < 0) return;
    header[0] = op;
    memcpy(header + 1, &a, 8);
    memcpy(header + 9, &b, 8);
    memcpy(header + 17, &n1, 4);
    memcpy(header + 21, &n2, 4);
    put(trace_fd, header, sizeof header);
    if (n1) put(trace_fd, one, n1);
    if (n2) put(trace_fd, two, n2);
}

static void mark(const char *text)
{
    if (mark_fd >= 0) {
        put(mark_fd, text, strlen(text));
        put(mark_fd, "\n", 1);
    }
    record(MARK, 0, 0, text, (uint32_t)strlen(text), NULL, 0);
}

void tracer_mark(const char *text)
{
    pthread_mutex_lock(&lock);
    mark(text);
    pthread_mutex_unlock(&lock);
}

/* From now on calls below `folder` are counted and recorded; call number `at` (from 1) meets `kind`. */
int tracer_start(const char *folder, const char *trace, const char *marks, long at, int kind)
{
    REAL(open, int, const char *, int, ...);
    trace_fd = *trace ? real_open(trace, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    mark_fd = *marks ? real_open(marks, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    fault_at = at;
    fault = kind;
    operations = 0;
    strncpy(root, folder, sizeof root - 1);
    root_length = strlen(root);
    return trace_fd;
}

void tracer_stop(void) { root_length = 0; }

long tracer_operations(void) { return operations; }

static int below(const char *path)
{
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int is_traced(int fd) { return root_length && fd >= 0 && fd < FDS && traced[fd]; }

/* Counts one call and says which fault it meets; a writing call (`size` > 0) can also be cut short. */
static int meet(const char *what, const char *path, size_t size)
{
    char text[4200];
    if (++operations != fault_at) return NONE;
    if (fault == FAIL_SHORT && size < 2) return NONE;
    snprintf(text, sizeof text, "FAULT %ld %s %s", operations, what, path);
    mark(text);
    if (fault == KILL_BEFORE) kill(getpid(), SIGKILL);
    return fault;
}

static int failed(int met)
{
    if (met == FAIL_IO || met == FAIL_AFTER) errno = EIO;
    if (met == FAIL_SPACE) errno = ENOSPC;
    if (met == FAIL_INTERRUPTED) errno = EINTR;
    return -1;
}

static int skips(int met) { return met == FAIL_IO || met == FAIL_SPACE || met == FAIL_INTERRUPTED; }

/* After the real call: die, or claim failure for what was done. */
static long finish(int met, long result)
{
    if (met == KILL_AFTER) kill(getpid(), SIGKILL);
    return met == FAIL_AFTER ? failed(met) : result;
}

static int open_any(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    if (!below(path)) return real(path, flags, mode);
    pthread_mutex_lock(&lock);
    int met = meet("open", path, 0), fd = -1;
    if (skips(met)) {
        failed(met);
    } else {
        fd = real(path, flags, mode);
        if (fd >= 0 && fd < FDS) {
            traced[fd] = 1;
            record(OPEN, fd, flags, path, (uint32_t)strlen(path), NULL, 0);
        }
        if (met == KILL_AFTER) kill(getpid(), SIGKILL);
        if (met == FAIL_AFTER) {
            REAL(close, int, int);
            if (fd >= 0) real_close(fd);
            if (fd >= 0 && fd < FDS) traced[fd] = 0;
            fd = failed(met);
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPENER(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name, int, const char *, int, ...); \
        mode_t mode = 0; \
        if (flags & O_CREAT) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        return open_any(real_##name, path, flags, mode); \
    }
OPENER(open)
OPENER(open64)

int close(int fd)
{
    REAL(close, int, int);
    if (!is_traced(fd)) return real_close(fd);
    pthread_mutex_lock(&lock);
    traced[fd] = 0;
    record(CLOSE, fd, 0, NULL, 0, NULL, 0);
    int result = real_close(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static ssize_t write_any(int fd, const char *bytes, size_t size, off_t offset, int at_position)
{
    REAL(write, ssize_t, int, const void *, size_t);
    REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
    pthread_mutex_lock(&lock);
    int met = meet("write", "", size);
    ssize_t done;
    if (skips(met)) {
        done = failed(met);
    } else {
        if (met == FAIL_SHORT) size /= 2;
        if (at_position) offset = lseek(fd, 0, SEEK_CUR);
        done = at_position ? real_write(fd, bytes, size) : real_pwrite(fd, bytes, size, offset);
        if (done > 0) record(WRITE, fd, offset, bytes, (uint32_t)done, NULL, 0);
        done = finish(met, done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    REAL(write, ssize_t, int, const void *, size_t);
    return is_traced(fd) ? write_any(fd, bytes, size, 0, 1) : real_write(fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
    return is_traced(fd) ? write_any(fd, bytes, size, offset, 0) : real_pwrite(fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) { return pwrite(fd, bytes, size, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev, ssize_t, int, const struct iovec *, int);
    if (!is_traced(fd)) return real_writev(fd, parts, count);
    size_t size = 0, at = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    char *joined = malloc(size + 1);
    if (!joined) _exit(98);
    for (int i = 0; i < count; at += parts[i].iov_len, i++) memcpy(joined + at, parts[i].iov_base, parts[i].iov_len);
    ssize_t done = write_any(fd, joined, size, 0, 1);
    int error = errno;
    free(joined);
    errno = error;
    return done;
}

#define SIMPLE(condition, what, path, call, ...) \
    if (!(condition)) return call; \
    pthread_mutex_lock(&lock); \
    int met = meet(what, path, 0), result; \
    if (skips(met)) { \
        result = failed(met); \
    } else { \
        result = call; \
        if (!result) record(__VA_ARGS__); \
        result = (int)finish(met, result); \
    } \
    pthread_mutex_unlock(&lock); \
    return result

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate, int, int, off_t);
    SIMPLE(is_traced(fd), "ftruncate", "", real_ftruncate(fd, size), TRUNCATE, fd, size, NULL, 0, NULL, 0);
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int fsync(int fd)
{
    REAL(fsync, int, int);
    SIMPLE(is_traced(fd), "fsync", "", real_fsync(fd), SYNC, fd, 0, NULL, 0, NULL, 0);
}

int fdatasync(int fd)
{
    REAL(fdatasync, int, int);
    SIMPLE(is_traced(fd), "fdatasync", "", real_fdatasync(fd), SYNC, fd, 0, NULL, 0, NULL, 0);
}

int rename(const char *old, const char *new)
{
    REAL(rename, int, const char *, const char *);
    SIMPLE(below(new), "rename", new, real_rename(old, new), RENAME, 0, 0, old, (uint32_t)strlen(old), new,
           (uint32_t)strlen(new));
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir, int, const char *, mode_t);
    SIMPLE(below(path), "mkdir", path, real_mkdir(path, mode), MKDIR, 0, 0, path, (uint32_t)strlen(path), NULL, 0);
}

int unlink(const char *path)
{
    REAL(unlink, int, const char *);
    SIMPLE(below(path), "unlink", path, real_unlink(path), UNLINK, 0, 0, path, (uint32_t)strlen(path), NULL, 0);
}
